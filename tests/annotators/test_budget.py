"""A budget stops before the request that would pass a limit, whatever the order and however many ask at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.annotators.budget import Budget, Usage
from trueup.errors import AnnotatorError, CheckpointError

QUESTION = "x" * 300  # 100 tokens by its length


def test_the_request_that_would_pass_a_limit_is_not_made() -> None:
    budget = Budget(max_requests=2)
    for _ in range(2):
        budget.settle(budget.reserve(QUESTION, 1), Usage(1, 90, 1))
    with pytest.raises(AnnotatorError) as caught:
        budget.reserve(QUESTION, 1)
    assert str(caught.value) == (
        "annotator.max_requests 2 does not allow for another request of about 91 tokens: 2 requests and 182 tokens "
        "are spent. Give a larger annotator.max_requests to go on"
    )
    assert budget.used == Usage(2, 180, 2)


@pytest.mark.parametrize("limits", [{"max_requests": 0}, {"max_tokens": 0}, {"max_tokens": 100}])
def test_a_first_request_may_be_too_much(limits: dict[str, int]) -> None:
    with pytest.raises(AnnotatorError, match="of about 101 tokens: 0 requests and 0 tokens are spent"):
        Budget(**limits).reserve(QUESTION, 1)


def test_tokens_are_estimated_until_the_endpoint_counts_them() -> None:
    assert Budget(max_tokens=101).reserve(QUESTION, 1).expected.tokens == 101
    chinese = Budget().reserve("\u4e2d" * 100, 1)  # three bytes each, a token each
    assert chinese.expected.question_tokens == 100
    assert Budget().reserve("\ud800", 0).expected.question_tokens == 1


def test_what_was_counted_teaches_the_estimate() -> None:
    budget = Budget()
    budget.settle(budget.reserve(QUESTION, 1), Usage(1, 60, 1))
    assert budget.reserve(QUESTION, 1).expected.question_tokens == 60
    budget.settle(budget.reserve(QUESTION, 1), Usage(1, 150, 1))
    budget.settle(budget.reserve(QUESTION, 1), Usage(1, 30, 1))
    assert budget.reserve(QUESTION * 2, 1).expected.question_tokens == 300  # by the most a byte that was seen
    budget.settle(budget.reserve(QUESTION, 1), Usage(1, 0, 0))  # a refused request says nothing of tokens
    assert budget.reserve(QUESTION * 2, 1).expected.question_tokens == 300


def test_cost_is_that_of_questions_and_answers() -> None:
    budget = Budget(max_cost=0.001, input_price=2.0, output_price=10.0)
    took = budget.settle(budget.reserve(QUESTION, 5), Usage(1, 300, 5))
    assert took.cost == pytest.approx(300 * 2e-6 + 5 * 10e-6)
    with pytest.raises(AnnotatorError) as caught:
        budget.reserve(QUESTION, 5)
    assert str(caught.value) == (
        "annotator.max_cost 0.001 does not allow for another request of about 305 tokens: 1 requests and 305 tokens at "
        "a cost of 0.00065 are spent. Give a larger annotator.max_cost to go on"
    )
    assert budget.reserve("x" * 60, 5).expected.question_tokens == 60  # a smaller one still fits


def test_a_cost_is_known_where_both_prices_are() -> None:
    assert not any(Budget(**prices).priced for prices in ({}, {"input_price": 1.0}, {"output_price": 0.0}))
    assert Budget(max_cost=1.0, input_price=0.0, output_price=0.0).priced


def test_an_answer_that_does_not_say_what_it_took_is_estimated_and_flagged() -> None:
    budget = Budget(input_price=3.0, output_price=3.0)
    took = budget.settle(budget.reserve(QUESTION, 4), None)
    assert took == Usage(1, 100, 4, pytest.approx(312e-6), 1)
    assert budget.used.estimated == 1


def test_requests_under_way_count() -> None:
    budget = Budget(max_requests=2)
    first, _ = budget.reserve(QUESTION, 1), budget.reserve(QUESTION, 1)
    with pytest.raises(AnnotatorError, match="0 tokens are spent, 2 requests and 202 tokens are under way"):
        budget.reserve(QUESTION, 1)
    budget.release(first)
    budget.settle(budget.reserve(QUESTION, 1), Usage(1, 1, 1))
    assert budget.used.requests == 1


def test_threads_together_keep_to_a_limit() -> None:
    budget = Budget(max_tokens=101 * 50)

    def one(_: int) -> int:
        try:
            held = budget.reserve(QUESTION, 1)
        except AnnotatorError:
            return 0
        budget.settle(held, Usage(1, 100, 1))
        return 1

    with ThreadPoolExecutor(16) as pool:
        made = sum(pool.map(one, range(400)))
    assert made == 50
    assert budget.used == Usage(50, 5000, 50)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=40), st.integers(0, 2000))
def test_no_limit_is_passed_where_estimates_hold(share: int, requests: list[tuple[int, bool]], limit: int) -> None:
    """An endpoint that counts alike for all texts, and no more than a third of their bytes, keeps within the budget."""
    budget = Budget(max_tokens=limit)
    for size, counts in requests:
        try:
            held = budget.reserve("x" * size, 1)
        except AnnotatorError:
            continue
        budget.settle(held, Usage(1, -(-size * share // 120), 1) if counts else None)
        assert budget.used.tokens <= limit


def test_a_budget_goes_on_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    budget = Budget(max_requests=3, input_price=1.0, output_price=1.0, file=file)
    assert not file.exists()
    for number, usage in enumerate((Usage(1, 10, 1), None), start=1):
        budget.settle(budget.reserve(QUESTION, 1), usage)
        assert json.loads(file.read_text())["requests"] == number
    resumed = Budget(max_requests=3, input_price=1.0, output_price=1.0, file=file)
    assert resumed.used == budget.used
    assert resumed.used.requests == 2
    resumed.settle(resumed.reserve(QUESTION, 1), Usage(1, 1, 1))
    with pytest.raises(AnnotatorError, match="3 requests and"):
        resumed.reserve(QUESTION, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["spent.json"]


STATE = {"requests": 1, "question_tokens": 2, "answer_tokens": 3, "cost": 0.5, "estimated": 0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((json.dumps({**STATE, name: value}), "is not a list of amounts") for name, value in (
            ("requests", -1), ("requests", 1.5), ("requests", True), ("cost", float("nan")), ("cost", "1"),
        )),
        *((text, "is not a list of amounts") for text in ("{}", "[]", "1")),
        *((text, "cannot be read") for text in ("", '{"requests": 1', "[" * 9999)),
    ],
)  # fmt: skip
def test_a_file_that_is_damaged_is_refused(content: str, said: str, tmp_path: Path) -> None:
    """As limits would count from 0 again."""
    file = tmp_path / "spent.json"
    file.write_text(json.dumps(STATE))
    assert Budget(file=file).used == Usage(1, 2, 3, 0.5, 0)
    file.write_text(content)
    with pytest.raises(CheckpointError) as caught:
        Budget(file=file)
    assert str(caught.value).startswith(f"{file}: what the annotator ha") and said in str(caught.value)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    budget = Budget(file=tmp_path / "gone" / "spent.json")
    with pytest.raises(CheckpointError, match=r"spent\.json: what the annotator took cannot be written"):
        budget.settle(budget.reserve(QUESTION, 1), None)
