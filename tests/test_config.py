from pathlib import Path

import pytest

from tilestream.config import ConfigError, Settings, load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TILESTREAM_{name.upper()}", raising=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_setting_says_what_it_is():
    for name, field in Settings.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_defaults():
    settings = load_settings()
    assert settings == Settings()
    assert settings.port == 50051 and settings.models == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.yaml", "port: 1\nmax_batch: 11\nmax_sessions: 21\n"),
        ("s.toml", "port=1\nmax_batch=11\nmax_sessions=21\n"),
    ],
)
def test_default_file_environment_flag_the_later_wins(tmp_path, monkeypatch, name, text):
    file = write(tmp_path / name, text)
    monkeypatch.setenv("TILESTREAM_MAX_BATCH", "12")
    monkeypatch.setenv("TILESTREAM_MAX_SESSIONS", "22")
    settings = load_settings({"max_sessions": 23}, file)
    assert (settings.port, settings.max_batch, settings.max_sessions) == (1, 12, 23)
    assert settings.media_threads == Settings().media_threads


def test_models_as_a_list_or_with_commas(tmp_path, monkeypatch):
    file = write(tmp_path / "s.yaml", "models: [a, b]\n")
    assert load_settings({}, file).models == ("a", "b")
    monkeypatch.setenv("TILESTREAM_MODELS", "c, d,")
    assert load_settings({}, file).models == ("c", "d")
    assert load_settings({"models": "e"}, file).models == ("e",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "prot: no such setting; settings are host, port"),
        ("port: 70000", "port: Input should be less than or equal to 65535 (is 70000)"),
        ("engines: 65", "engines: has to be auto or a number from 0 to 64 (is 65)"),
        ("bin_size: 48", "bin_size: has to be a power of two: 16, 32, 64, 128, 256, 512 (is 48)"),
        ("gate: none", "gate: no such gate; there are auto, every_k"),
        ("host: localhost:5", "host: has to be a name or an address, without a port"),
        ("host: 'unix:'", "host: has to name a file: unix:/path"),
        ("host: 'unix://relative'", "host: has to be unix:/path or unix:///path"),
        ("metrics_host: 'unix:/s'", "metrics_host: has to be a name or an address, without a port"),
        ("feature_memory: 5", "feature_memory: has to be at least 1048576, or 0 (is 5)"),
        ("engines: many", "has to be auto or a number from 0 to 64"),
        ("precision: int8", "precision: Input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ("[1, 2]", "has to be a table of settings"),
        ("a: [", "settings file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_settings({}, write(tmp_path / "s.yaml", text))
    assert message in str(caught.value)


def test_engines_are_a_number_or_the_servers_choice(tmp_path, monkeypatch):
    assert load_settings().engines == "auto"
    assert load_settings({}, write(tmp_path / "s.yaml", "engines: 2")).engines == 2
    monkeypatch.setenv("TILESTREAM_ENGINES", "0")
    assert load_settings().engines == 0
    assert load_settings({"engines": "auto"}).engines == "auto"


def test_an_empty_file_is_fine_and_a_missing_one_is_not(tmp_path):
    assert load_settings({}, write(tmp_path / "s.yaml", "")) == Settings()
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_settings({}, tmp_path / "nowhere.toml")


def test_a_wrong_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("TILESTREAM_PORT", "http")
    with pytest.raises(ConfigError, match=r"port: .*'http'"):
        load_settings()


def test_the_largest_frame_has_to_fit_into_a_message():
    with pytest.raises(ConfigError) as caught:
        load_settings({"max_frame_bytes": 5000, "max_message_bytes": 5000})
    assert str(caught.value).startswith("max_message_bytes has to be at least max_frame_bytes")


@pytest.mark.parametrize(
    "host", ["::1", "[::1]", "::", "0.0.0.0", "localhost", "fe80::1%lo", "unix:/run/t/s"]
)
def test_hosts_are_taken_as_people_write_them(host):
    assert load_settings({"host": host, "allow_anonymous": True}).host == host


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_certificate": "a.pem"}, "tls_key is missing"),
        ({"tls_key": "a.key"}, "tls_certificate is missing"),
        ({"tls_client_ca": "ca.pem"}, "tls_client_ca needs tls_certificate and tls_key"),
    ],
)
def test_half_of_what_tls_needs_is_an_error(given, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(given)
