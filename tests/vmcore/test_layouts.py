"""The table of releases: every row, vendors included, at its border."""

from __future__ import annotations

import pytest

from vmcorefs.errors import UsageError
from vmcorefs.vmcore.layouts import LAYOUTS, VENDORS, Switches, parse_layout, switches_for_layout, switches_for_release

A = (8, 0, False)  # layout 5.8
B = (4, 0, False)  # layout 6.1
C = (4, 4, False)  # 6.5 to 6.9
D = (4, 4, True)  # layout 6.10
E = (8, 4, False)  # RHEL 9.5 only

Triple = tuple[int, int, bool]


def triple(switches: Switches | None) -> Triple:
    assert switches is not None
    return switches.todpreg_size, switches.note_align, switches.image_load


@pytest.mark.parametrize(("release", "expected"), [
    ("4.9.337", A), ("4.13.16", A), ("5.0.21", A), ("5.8.0", A), ("5.8.0-rc4", A), ("5.9.16", A), ("5.14.21", A), ("5.16.20", A),
    ("5.19.17", A),
    # stable releases with f44e07a8afdd, at the border
    ("4.14.300", A), ("4.14.301", B), ("4.19.267", A), ("4.19.268", B), ("5.4.225", A), ("5.4.226", B), ("5.10.156", A),
    ("5.10.157", B), ("5.15.80", A), ("5.15.81", B), ("6.0.10", A), ("6.0.11", B), ("4.14.336", B), ("5.15.200-custom", B),
    ("5.4", A), ("6.0", A),
    # mainline
    ("6.1.0-rc1", A), ("6.1.0-rc6", A), ("6.1-rc6", A), ("6.1.0-rc6+", A), ("6.1.0-rc7", B), ("6.1-rc8", B), ("6.1.0-rc10", B),
    ("6.1", B), ("6.1.0", B), ("6.1.192-gold", B), ("6.4.16", B), ("6.4.0", B),
    ("6.5", C), ("6.5.0", C), ("6.6.87", C), ("6.9.12", C),
    ("6.10", D), ("6.10.0", D), ("6.12.117-gold", D), ("6.17.1", D), ("7.0.0", D), ("10.1.0", D),
])
def test_mainline_and_stable(release: str, expected: Triple) -> None:
    assert triple(switches_for_release(release)) == expected


@pytest.mark.parametrize(("release", "expected"), [
    # 1: RHEL 8
    ("4.18.0-80.el8.s390x", A), ("4.18.0-193.28.1.el8_2.s390x", A), ("4.18.0-553.66.1.el8_10.s390x", A),
    ("4.18.0-553.el8.s390x+debug", A),
    # 2: RHEL 9.0 to 9.4
    ("5.14.0-70.13.1.el9_0.s390x", A), ("5.14.0-427.42.1.el9_4.s390x", A), ("5.14.0-454.el9.s390x", A),
    # 3: RHEL 9.5
    ("5.14.0-455.el9.s390x", E), ("5.14.0-503.11.1.el9_5.s390x", E), ("5.14.0-503.40.1.el9_5.s390x", E),
    ("5.14.0-512.el9.s390x", E),
    # 4, 5: RHEL 9.6 and later
    ("5.14.0-513.el9.s390x", C), ("5.14.0-570.12.1.el9_6.s390x", C), ("5.14.0-570.32.1.el9_6.s390x+zfcpdump", C),
    ("5.14.0-611.el9.s390x", C),
    # 6, 7: RHEL 10
    ("6.12.0-55.9.1.el10_0.s390x", D), ("6.12.0-211.el10.s390x", D),
    # 9: SLES 12 SP5
    ("4.12.14-122.185-default", A), ("4.12.14-122.186-default", B), ("4.12.14-122.9-default", A), ("4.12.14-122.1000-default", B),
    # 10: SLES 15 SP1 to SP3
    ("4.12.14-197.108-default", A), ("5.3.18-24.107-default", A), ("5.3.18-150300.59.153-default", A),
    # 11: SLES 15 SP4
    ("5.14.21-150400.24.99-default", A), ("5.14.21-150400.24.100-default", B), ("5.14.21-150400.24.9-default", A),
    # 12: SLES 15 SP5
    ("5.14.21-150500.55.38-default", A), ("5.14.21-150500.55.39-default", B), ("5.14.21-150500.55.7-default", A),
    # 13: SLES 15 SP6, SP7
    ("6.4.0-150600.23.50-default", B), ("6.4.0-150700.53.3-default", B),
    # 14: SLES 16
    ("6.12.0-160000.5-default", D),
    # 15: Ubuntu 20.04
    ("5.4.0-142-generic", A), ("5.4.0-143-generic", B), ("5.4.0-9-generic", A), ("5.4.0-216-generic", B),
    # 16: Ubuntu 22.04
    ("5.15.0-64-generic", A), ("5.15.0-65-generic", B), ("5.15.0-185-generic", B),
    # 17: Ubuntu HWE
    ("5.8.0-63-generic", A), ("5.11.0-49-generic", A), ("5.13.0-52-generic", A), ("5.19.0-50-generic", A),
    ("4.15.0-213-generic", A),
    # 18 to 21: Ubuntu 6.x
    ("6.2.0-39-generic", B), ("6.5.0-14-generic", C), ("6.8.0-60-generic", C), ("6.11.0-8-generic", D),
    # 22: Debian 10
    ("4.19.0-22-s390x", A), ("4.19.0-23-s390x", B),
    # 23: Debian 11
    ("5.10.0-19-s390x", A), ("5.10.0-20-s390x", B), ("5.10.0-9-s390x", A), ("5.10.0-32-s390x", B),
    # 24: Debian 12
    ("6.1.0-9-s390x", B), ("6.1.0-37-s390x", B), ("6.1.0-0.deb11.21-s390x", B),
    # 25: Debian 6.0
    ("6.0.0-5-s390x", A), ("6.0.0-6-s390x", B),
    # 26: Debian 13
    ("6.12.43+deb13-s390x", D),
])
def test_vendor_kernels(release: str, expected: Triple) -> None:
    assert triple(switches_for_release(release)) == expected


@pytest.mark.parametrize("release", ["5.14.0-454.999.1.el9.s390x", "5.14.0-427.513.1.el9_4.s390x"])
def test_only_the_first_number_of_a_red_hat_build_counts(release: str) -> None:
    assert triple(switches_for_release(release)) == A


def test_vendors_are_named_in_the_reason() -> None:
    switches = switches_for_release("5.14.0-503.11.1.el9_5.s390x")
    assert switches is not None
    assert "RHEL 9" in switches.reason
    assert "5.14.0-503.11.1.el9_5.s390x" in switches.reason


@pytest.mark.parametrize("release", ["5.14.21-150400.24.100-default", "4.19.0-23-s390x", "4.15.0-213-generic", "6.0.0-6-s390x",
                                     "3.10.0-1160.el7.s390x", "4.8.17"])
def test_what_is_not_proven_is_marked_as_assumed(release: str) -> None:
    switches = switches_for_release(release)
    assert switches is not None
    assert switches.assumed


@pytest.mark.parametrize("release", ["6.1.0", "5.14.0-513.el9.s390x", "5.15.0-65-generic", "4.12.14-122.186-default", "4.9.0"])
def test_what_is_proven_is_not_marked(release: str) -> None:
    switches = switches_for_release(release)
    assert switches is not None
    assert not switches.assumed


@pytest.mark.parametrize(("release", "looked_at"), [
    ("6.9.12", False), ("6.10.0", True), ("6.12.0-55.9.1.el10_0.s390x", True), ("5.14.0-570.12.1.el9_6.s390x", False)])
def test_os_info_in_zfcpdump(release: str, looked_at: bool) -> None:
    switches = switches_for_release(release)
    assert switches is not None
    assert switches.os_info_in_zfcpdump is looked_at


@pytest.mark.parametrize("text", ["", "linux", "6", "6.", "v6.1", ".1", "6.x", "auto", "1000.1"])
def test_what_is_no_release(text: str) -> None:
    assert switches_for_release(text) is None


def test_every_vendor_row_is_tested_above() -> None:
    assert {v.name for v in VENDORS} == {"RHEL 8", "RHEL 9", "SLES 12 SP5", "SLES 15 SP4", "SLES 15 SP5", "Ubuntu 20.04",
                                         "Ubuntu 22.04", "Ubuntu", "Debian 10", "Debian 11", "Debian"}


@pytest.mark.parametrize(("name", "expected"), [("5.8", A), ("6.1", B), ("6.10", D)])
def test_named_layouts(name: str, expected: Triple) -> None:
    assert triple(LAYOUTS[name]) == expected
    assert triple(switches_for_layout(name)) == expected
    assert parse_layout(name) == name


@pytest.mark.parametrize(("text", "expected"), [
    ("6.4", B), ("6.5", C), ("6.5.0", C), ("5.15.81", B), ("5.14.0-503.11.1.el9_5.s390x", E), ("6.12.0", D), ("6.10.3", D)])
def test_a_release_is_a_layout(text: str, expected: Triple) -> None:
    assert parse_layout(text) == text
    assert triple(switches_for_layout(text)) == expected


def test_auto_is_taken() -> None:
    assert parse_layout("auto") == "auto"


@pytest.mark.parametrize("text", ["", "new", "6", "Auto", "v5.8"])
def test_an_unknown_layout_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_layout(text)
    assert repr(text) in str(caught.value)
    for known in ("auto", "5.8", "6.1", "6.10"):
        assert known in str(caught.value)
    with pytest.raises(UsageError):
        switches_for_layout(text)
