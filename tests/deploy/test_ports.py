"""What the compose files publish, and where."""

from pathlib import Path

import yaml

from tilestream.config import ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]


def server(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())["services"]["server"]


def test_the_page_is_published_only_where_it_is_switched_on_and_on_loopback_only():
    plain, page = server("docker-compose.yml"), server("docker-compose.page.yml")
    assert not any("WEB" in name for name in plain["environment"])
    assert all(port.endswith(":50051") for port in plain["ports"])
    (published,) = page["ports"]
    assert published.startswith("127.0.0.1:") and published.endswith(":8080")
    settings = {name.removeprefix(ENV_PREFIX).lower() for name in page["environment"]}
    assert settings == {"web_port", "web_host", "web_frames"} <= set(Settings.model_fields)
    assert page["environment"]["TILESTREAM_WEB_FRAMES"] == "${TILESTREAM_WEB_FRAMES:-false}"
