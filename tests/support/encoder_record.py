"""What the contract checks measured on every encoder: docs/encoders.csv, the table of docs/encoders.md.

`pytest tests/test_contract.py -m "slow or not slow" -k encoder --record-encoders` writes the rows of the encoders whose
checks ran, for the backend it ran on. Without the option, test_contract.py compares what it measures with the file.
"""

from kerazoo import testing
from support.record import Record

ENCODERS, CHECKS = testing.CHECKS["encoder"]
RECORD = Record("encoders", {"encoder": ENCODERS}, [check.__name__.removeprefix("check_encoder_") for check in CHECKS])


def cell(measured) -> str:
    """What a check returned, as it stands in the file."""
    return "yes" if measured is None else " ".join(map(str, measured)) or "none"
