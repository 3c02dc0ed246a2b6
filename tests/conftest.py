"""What holds for every test: under CI a test that was skipped, or expected to fail, fails the run."""

import os

import pytest

FORBIDDEN_IN_CI = ("skipped", "xfailed", "xpassed")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or not isinstance(reporter, pytest.TerminalReporter):
        return
    if any(reporter.stats.get(outcome) for outcome in FORBIDDEN_IN_CI):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.section("a test was skipped, which is a failure in CI")
