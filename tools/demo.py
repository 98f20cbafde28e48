"""`make demo`: a real server, a clip through gRPC, and pictures of what came back."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tools.browser import NoBrowserError, browser
from tools.page_pictures import NoPictureError, Shot, cameras, photograph
from tools.server_process import NotStartedError, free_port, server_process

ROOT = Path(__file__).resolve().parent.parent
CLIP_FRAMES, CLIP_SEED, CLIP_FPS = 90, 12, 15.0
LOOK_FPS = 5.0  # of the camera that is looked at


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="a clip of your own instead of the synthetic street")
    parser.add_argument(
        "--model", default="", help="a model of `tilestream models`; default: the server's default"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.video is not None and not arguments.video.exists():
        print(f"demo: there is no video {arguments.video}", file=sys.stderr)
        return 1
    clip = arguments.video or synthetic_clip(out)
    command = [sys.executable, "-m", "tilestream_client", "stream", str(clip)]
    command += ["--out", str(out / "overlay.mp4"), "--contact-sheet", str(out / "contact_sheet.png")]
    command += ["--json", str(out / "summary.json"), "--show-bins"]
    command += ["--model", arguments.model] if arguments.model else []
    print("demo: starting the server ...", flush=True)
    page = free_port()
    try:
        with server_process(out, "--web-port", str(page), "--web-frames") as (_, port):
            server, address = f"127.0.0.1:{port}", f"http://127.0.0.1:{page}/"
            print(f"demo: streaming; meanwhile look at {address}", flush=True)
            status = subprocess.run([*command, "--server", server], check=False).returncode
            if status == 0:
                look(server, address, clip, out / "page.png")
    except NotStartedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if status == 0:
        tell(out)
    return status


def look(server: str, address: str, clip: Path, path: Path) -> None:
    """Leave a picture of the page, where there is a browser; after the numbers, which it would spoil."""

    async def picture() -> None:
        async with browser() as launched:
            with cameras(server, clip, ["demo"], [LOOK_FPS]):
                await photograph(launched, address, path, Shot(1280, 860))

    path.unlink(missing_ok=True)
    try:
        asyncio.run(picture())
    except (NoBrowserError, NoPictureError) as error:
        print(f"demo: no picture of the page, {error}")


def synthetic_clip(out: Path) -> Path:
    """Render the synthetic street once; later demos use the file."""
    path = out / "street.mp4"
    if not path.exists():
        from tilestream_street import write_clip

        print(f"demo: drawing {CLIP_FRAMES} frames of a synthetic street (once) ...", flush=True)
        part = path.with_name("street.part.mp4")
        write_clip(part, seed=CLIP_SEED, frames=CLIP_FRAMES, width=480, height=360, fps=CLIP_FPS)
        part.replace(path)
    return path


def tell(out: Path) -> None:
    """What was done, in a few lines."""
    summary = json.loads((out / "summary.json").read_text())
    latency = summary["latency_ms"]
    page = (
        f"  {out / 'page.png'}            the page that shows it live\n"
        if (out / "page.png").exists()
        else ""
    )
    print(
        f"""
demo: {summary["frames_ok"]} of {summary["frames_sent"]} frames segmented
      by {summary["model"]} on {summary["device"]}
      {summary["fps"]:.1f} frames/s, latency p50 {latency["p50"]:.0f} ms, p99 {latency["p99"]:.0f} ms
      block drop rate {summary["block_drop_rate"]:.0%}

Look at
  {out / "contact_sheet.png"}   some frames and their labels
  {out / "overlay.mp4"}         the whole clip
  {out / "summary.json"}        the numbers
{page}  {out / "server.log"}          what the server said
Then try
  make demo VIDEO=your_clip.mp4
  .venv/bin/tilestream serve --web-port 8080 --web-frames
                                        look at http://localhost:8080/, and in another terminal
  .venv/bin/tilestream-client stream your_clip.mp4 --out overlay.mp4
"""
    )


if __name__ == "__main__":
    sys.exit(main())
