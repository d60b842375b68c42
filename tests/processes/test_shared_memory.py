"""Memory whose size nobody changes: who reads beyond a new end would die of it."""

import mmap
import os
import sys

import pytest

from gsop.processes.shared_memory import anonymous_memory, keep_size

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seals are Linux's")

SIZE = 4 * mmap.PAGESIZE


@pytest.mark.parametrize("size", [0, mmap.PAGESIZE, 2 * SIZE])
def test_its_size_is_for_good(size: int) -> None:
    descriptor = anonymous_memory("gsop-test")
    os.ftruncate(descriptor, SIZE)
    keep_size(descriptor)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, size)
    memory = mmap.mmap(descriptor, SIZE)
    memory[-1] = 7
    memory.madvise(mmap.MADV_REMOVE, 0, SIZE)  # given back, and still there
    assert memory[-1] == 0
    os.close(descriptor)


def test_an_older_kernel_s_is_sealed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(name: str, flags: int) -> int:
        if flags & ~(os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
            raise OSError(22, "Invalid argument")
        return make(name, flags)

    make = os.memfd_create
    monkeypatch.setattr(os, "memfd_create", older)
    descriptor = anonymous_memory("gsop-test")
    keep_size(descriptor)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, SIZE)
    os.close(descriptor)
