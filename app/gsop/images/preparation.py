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
        "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh20002%ZDn*}000000000XXk=`10000000000aA{+700000000"
        "0000000000004sdC7Z2$lO000310016oY;R)#0000)000310RR910RR926951JD*ylhC~0YKW&i*H00031000_kZ"
        "f0cy000000RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG00000C;$KeC;$Ke5O8UDX#fBK00Rg"
        "J2mk;83}JRLLxBJc000006Ju{|a&BX6cmM$a4FCp!0000NX>e^}0000000001009I60)qqq001*>WMOm?0162h6="
        "$8I0vZhnG8`O7hlSnKO*F#BzyQz6DaVu_thBdG=DuD5FTe"
    ),
    "HEIC": (
        "0000SW^{RQXk}@500000ZE0pPXk}@5ZE0a<0004XZDn*}000000000XXk=`10000000000aA{+70000000000000"
        "0000000B57=IV*mgE07O6l0RRC200001nE(L*00000007Vc001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F"
        "#rGn01j|zbZr0t000010002>X>f9I0002hX>en20001RXm(>m0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN"
        "^|NjIC00093pZEX(0{{RXx&lC90096cLID8;2mk;B0H62(00RI39>9VG7F(;5n&!ZO000bt00093gkk^z00u+>!E"
        "?Zg0000JV{dG7ZewhC0096E00w{n000zeb8uw<00000002M$002M$001asY+-N!001BW00031001BW00061|Nr0s"
        "00092|Nr0s00062000hfX?SS>000012mk;87-?{AVE_OC000000RRC7fdT^sga7~l*llECbN~PV%qRh_4RCw+&Jk"
        "x;dWUVH0)NifaPM~WZ@w$VS44J;4*lNCZKddU0RKKe<$1OUU|Xf-vqe+*)c^5enu99L-H;Z2z-QXud*KIYgqA(rs"
        "&0EP3HNxi*F4xvRyW@VeA8gdxm74nP@jnXa8}q`kw?{kUE3?^{Y@(=b%`A=_r<sZPCQP((5s2~bl)JVrUULb<HGO"
        "t=<)ho%5Z-oO#&-7&OQqRhL2w-6-zt0h=HgxVJ`w8B1>iRZ=8G;cDzJ+GY}B_9j@-Rzy"
    ),
}
"""Small images in formats that are read and not written here, as base 85."""

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
            decode(base64.b85decode(text), _SPEC, max_pixels=10_000)
