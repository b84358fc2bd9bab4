from pathlib import Path

from benchmarks.transfer import gathered
from benchmarks.transfer.document import document
from benchmarks.transfer.results import result_of

REPOSITORY = Path(__file__).resolve().parents[3]
NUMBERS = REPOSITORY / "benchmarks" / "transfer" / "numbers.json.gz"


def test_the_page_is_what_the_committed_numbers_texts_and_tables_make():
    made = document([result_of(own) for own in gathered.load(NUMBERS)])
    assert made == (REPOSITORY / "docs" / "transfer-results.md").read_text(encoding="utf-8")
