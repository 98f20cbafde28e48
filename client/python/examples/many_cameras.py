"""Several videos at once with asyncio: ``python many_cameras.py HOST:PORT a.mp4 b.mp4 ...``."""

import asyncio
import sys

from tilestream_client import AsyncClient


async def watch(client: AsyncClient, path: str) -> None:
    """Count the frames of one video that got a mask."""
    async with client.stream(path, camera_id=path) as stream:
        oks = [result.ok async for result in stream]
    print(f"{path}: {sum(oks)} of {len(oks)} frames")


async def main(target: str, paths: list[str]) -> None:
    """Watch all of them over one connection."""
    async with AsyncClient(target) as client:
        await asyncio.gather(*(watch(client, path) for path in paths))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
