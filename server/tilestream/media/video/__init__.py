"""Video in: the access units of a camera, H.264 or H.265 in Annex B, to pictures.

What a unit claims of itself (sizes, slices, whether one can begin with it) is read and checked here before
libav sees a byte of it: ``annexb`` cuts it into NAL units, ``h264`` and ``h265`` read headers, ``limits``
says what is too much, ``decoder`` keeps the decoder of one session.
"""
