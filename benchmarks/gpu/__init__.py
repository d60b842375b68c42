"""All that there is to say about a CUDA device, in one call: is it right, and how fast is it.

    python -m benchmarks.gpu --name gpu-h100           # make gpu
    python -m benchmarks.gpu --device cpu --short      # that the script works, and no more

Every finding is a row with what it should be. Right answers come first: figures of wrong ones say
nothing. The exit status is 1 if a row fails, and 2 if there is no GPU.
"""
