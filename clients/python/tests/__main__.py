"""Runs modules of tests, and prints a line of JSON for each test: its id, and why it failed, or null."""

from __future__ import annotations

import json
import sys
import unittest
from typing import Any


class JsonResult(unittest.TestResult):
    """Prints what becomes of each test. A skipped test counts as failed: here nothing may be missing."""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._reasons: list[str] = []

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        reason = self.errors[-1][1]
        if isinstance(test, unittest.TestCase):
            self._reasons.append(reason)
        else:
            # The set-up of a class or a module.
            print(json.dumps({"id": str(test), "failure": reason}), flush=True)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._reasons.append(self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._reasons.append(f"{subtest}\n{(self.failures + self.errors)[-1][1]}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._reasons.append(f"skipped: {reason}")

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        failure = "\n".join(self._reasons) or None
        print(json.dumps({"id": test.id(), "failure": failure}), flush=True)


unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:]).run(JsonResult())
