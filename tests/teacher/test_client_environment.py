"""Variables of the environment that the HTTP library reads: unusable ones are named."""

from __future__ import annotations

import pytest

from distill.errors import UserError
from distill.teacher.endpoint.environment import check_environment, proxy_of

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HTTP_PROXY", "foo://bar", "HTTP_PROXY in the environment is not the address of a proxy"),
        ("https_proxy", "http://me:secret@h:99999", "https_proxy in the environment is not the"),
        ("ALL_PROXY", "http://", "ALL_PROXY in the environment is not the address"),
        ("HTTP_PROXY", "http://[::1", "HTTP_PROXY in the environment is not the address"),
        ("SSL_CERT_FILE", "/absent", "got SSL_CERT_FILE=/absent in the environment, which is not"),
        ("SSL_CERT_DIR", "/absent", "got SSL_CERT_DIR=/absent in the environment, which is not"),
        ("SSL_CERT_FILE", __file__, "expected a file of certificates in PEM format"),
    ],
)
def test_what_the_library_cannot_use_is_named(name, value, message, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        check_environment()
    assert message in str(error.value) and "secret" not in str(error.value)


def test_a_socks_proxy_needs_a_package(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://localhost:1080")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package socksio"):
        check_environment()


def test_the_proxy_of_an_address_is_told_without_its_password(monkeypatch):
    check_environment()
    assert proxy_of("http://teacher:8000/v1") == ""
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy:3128/")
    check_environment()
    assert proxy_of("http://teacher:8000/v1") == "proxy:3128"
    assert proxy_of("https://teacher:8000/v1") == ""
    monkeypatch.setenv("NO_PROXY", "teacher")
    assert proxy_of("http://teacher:8000/v1") == ""
