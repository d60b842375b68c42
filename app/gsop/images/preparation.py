"""All that a process does at its first images, done before it gets one.

Pillow imports some of its modules when a file wants them, OpenCV and the C library set themselves
up at first use. In its cage (:mod:`gsop.processes.cage`) a decoder can open no file any more.
"""

import base64
from functools import cache
from importlib import import_module
from io import BytesIO

from PIL import Image

from gsop.images.decoding import decode
from gsop.images.heif import load_libheif
from gsop.images.spec import InputSpec

_LATE = (
    *(
        "PIL.AvifImagePlugin",
        "PIL.BmpImagePlugin",
        "PIL.GifImagePlugin",
        "PIL.ImageCms",
        "PIL.ImageColor",
    ),
    *("PIL.ImageFilter", "PIL.ImagePalette", "PIL.JpegImagePlugin", "PIL.MpoImagePlugin"),
    *("PIL.PngImagePlugin", "PIL.PpmImagePlugin", "copy"),
)
"""What Pillow imports when a file, or a conversion of its pixels, wants it."""

_KINDS = (
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("BMP", mode) for mode in ("P", "RGB")),
    *(("TIFF", mode) for mode in ("1", "L", "RGB", "RGBA", "CMYK")),
    *(("GIF", mode) for mode in ("P",)),
)
"""Formats and modes, as Pillow calls them: one image of each is decoded."""

_SAMPLES = {
    "AVIF": (
        "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh20002%ZDn*}000000000XXk=`10000000000aA{+70000000000"
        "00000004sdC7Z2$lO000310016oY;R)#0000)000310RR910RR926951JDgXcgC~0YKW&i*H00031000_kZf0cy000"
        "000RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG00000C;$KeC;$Ke5O8UDX#fBK00RgJ2mk;83}J"
        "RLLxBJc000006Ju{|a&BX6cmM$a4FCp!0000NX>e^}0000000001009I60)qqq001&=WMOm?0162h6=$8I0vZhnG8"
        "-L-hlQQoamNC{6#&o5DZmIZskvC=V=u`%um"
    ),
    "HEIC": (
        "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+70000000000000000"
        "0B57=IV*mgE07O6l0RRC200001p#T8@00000000;O001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|"
        "zbZr0t000010002}X>f9I0002pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU0009"
        "3kN^M!000939=ZZRVE_RDDnbDP18@KU0|1Z!00RI30{|YNAb|yz>g1-mxCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3"
        "=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000KmY&$KmY&$C}V74Z~y=RC;$Ke0RR91C;$Ke0ssI1=l}o!0{{R2"
        "=l}o!0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7fdT^sga7~lAZ=t}bN~PV6et0&3t;u-gRlQDckzTE"
        "*|ksg4g"
    ),
}
"""Images of 40 × 40 in formats that are read and not written here, as base 85."""

_SPEC = InputSpec(height=6, width=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)


@cache
def prepare() -> None:
    """Import and set up whatever decoding may use; once in a process, or before it is forked."""
    for module in _LATE:
        import_module(module)
    for name, mode in _KINDS:
        for side in (5, 40):  # enlarged and shrunk
            file = BytesIO()
            Image.new(mode, (side, side)).save(file, name)
            # Twice its pixels: of some formats only a part is let through.
            decode(file.getvalue(), _SPEC, max_pixels=2 * side * side)
    for name, text in _SAMPLES.items():
        if name != "HEIC" or load_libheif() is not None:
            decode(base64.b85decode(text), _SPEC, max_pixels=1600)
