"""How much one session may ask for, and how much one result may hold and cost, whatever the mask is like.

What is above the first is refused when a session opens; what is above the second is left out of the result,
whose ``detail`` says so. Masks of streets have a tenth of it at most; noise would have megabytes.
"""

MAX_REGIONS, MAX_RULES = 64, 64  # of a session; a region is a bit of 64 in ``regions``
MAX_NAME = 64  # characters of a region's or rule's name
MIN_POINTS, MAX_POINTS = 3, 64  # corners of a region
MAX_REGION_POINTS = 1024  # of all regions of a session; at 3840x2160 they take 30 MB then
MAX_TOLERANCE = 100.0  # pixels that an outline may be off
DEFAULT_TOLERANCE = 1.0
DEFAULT_MIN_PIXELS = 64  # of an instance

MAX_INSTANCES = 256  # of a result, the largest ones
MAX_OUTLINE_POINTS = 16_384  # of all polygons of a result: 128 KiB
MAX_COUNTS = 65_536  # run lengths of all COCO RLEs of a result: one or two bytes each
MAX_RUNS = 262_144  # of a mask, along rows or columns; above them there are no instances and no COCO RLEs
MAX_CORNERS = 65_536  # traced for a result: 30 ms of a core
