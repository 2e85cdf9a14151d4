"""The judge behind an endpoint: no answer that came is lost or bought twice, however the endpoint and we behave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pyarrow as pa
import pytest

from library.judges.endpoint import KEY, Endpoint, serving
from polygate import files
from polygate.errors import PolygateError
from polygate.judges import answers, api, cost
from polygate.judges.api import ApiJudge
from polygate.judges.interface import Judgement
from polygate.prompts import table
from polygate.prompts.table import Prompt
from polygate.settings.types import Api, Judging, dump

PROMPTS = [f"request {i}" for i in range(24)]
REPLIES = [f"I am sorry, number {i}" if i % 3 == 0 else f"Here you are, number {i}" for i in range(24)]
EXPECTED = ["refused" if i % 3 == 0 else "complied" for i in range(24)]


def chat(message: dict[str, object], finish: str = "stop", **more: object) -> str:
    """A plan: one choice with this message."""
    return f"raw {json.dumps({'choices': [{'message': message, 'finish_reason': finish}], **more})}"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", f"{KEY}\n")


def settings(endpoint: Endpoint, **more: object) -> Api:
    return Api.model_validate({"base_url": endpoint.url, "key": "LOOPBACK_KEY", "timeout": 1, **more})


def judge(endpoint: Endpoint, folder: Path, log: list[str] | None = None, **more: object) -> ApiJudge:
    said: list[str] = [] if log is None else log
    return ApiJudge("loop", settings(endpoint, **more), folder=folder, pause=0.01, log=said.append)


def outcomes(one: ApiJudge, count: int = 24) -> list[str]:
    return [found.outcome for found in one.outcomes("en", PROMPTS[:count], REPLIES[:count], [""] * count)]


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.jsonl")))


def test_every_completion_is_asked_about_once_in_all_runs(tmp_path: Path) -> None:
    with serving() as endpoint:
        assert outcomes(judge(endpoint, tmp_path)) == EXPECTED
        before = stored(tmp_path)
        assert outcomes(judge(endpoint, tmp_path)) == EXPECTED
        # Another prompt, another setting or another model is another question.
        judge(endpoint, tmp_path).outcomes("en", ["another"], REPLIES[:1], [""])
        outcomes(judge(endpoint, tmp_path, max_tokens=9), 1)
        outcomes(judge(endpoint, tmp_path, model="other"), 1)
    assert set(endpoint.calls.values()) == {1, 4}
    assert endpoint.calls[REPLIES[0]] == 4
    assert stored(tmp_path).startswith(before) or before in stored(tmp_path)
    assert endpoint.most_at_once <= 8


def misbehaving(reply: str, call: int) -> str:
    """Three calls that go wrong, each reply's in another order, then an answer."""
    wrongs = ["busy 0.05", "500", "silence 1.3", "garbage", "half", "reset", "503", "busy"]
    number = int(reply.rsplit(" ", 1)[1])
    return wrongs[(number + call) % len(wrongs)] if call < 3 else "answer"


def test_no_answer_is_lost_or_bought_twice_while_the_endpoint_misbehaves(tmp_path: Path) -> None:
    log: list[str] = []
    with serving(misbehaving) as endpoint:
        assert outcomes(judge(endpoint, tmp_path, log, concurrency=24)) == EXPECTED
        assert outcomes(judge(endpoint, tmp_path)) == EXPECTED
    kept = answers.known(answers.read(next(tmp_path.glob("*.jsonl"))))
    twice = sum(count - 1 for count in endpoint.delivered.values())
    print(f"\ncalls made {sum(endpoint.calls.values())}, answers kept {len(kept)}, bought twice {twice}")
    assert (sum(endpoint.calls.values()), len(kept), twice) == (96, 24, 0)
    assert "24 answers kept" in log[-1]
    # All calls about one completion have one key, so that an endpoint that heeds it bills once.
    assert all(len(keys) == 1 for keys in endpoint.keys.values())


@pytest.mark.parametrize("form", ["number", "date"])
def test_retry_after_holds_for_all_calls(tmp_path: Path, form: str) -> None:
    def plan(_reply: str, call: int) -> str:
        with lock:
            first = not seen
            seen.append(call)
        asked = "0.6" if form == "number" else formatdate(time.time() + 2, usegmt=True)
        return f"busy {asked}" if first else "answer"

    lock, seen = threading.Lock(), list[int]()
    with serving(plan) as endpoint:
        assert outcomes(judge(endpoint, tmp_path, concurrency=1), 4) == EXPECTED[:4]
    # A date has whole seconds.
    assert endpoint.times[1] - endpoint.times[0] >= (0.6 if form == "number" else 0.9)


def test_a_wait_that_nobody_would_wait_ends_the_job(tmp_path: Path) -> None:
    with (
        serving(lambda _reply, _call: "busy 86400") as endpoint,
        pytest.raises(PolygateError, match=r"asks to wait 86400 s"),
    ):
        outcomes(judge(endpoint, tmp_path), 1)


def test_what_came_is_kept_when_another_call_fails_for_good(tmp_path: Path) -> None:
    bad = REPLIES[7]
    with serving(lambda reply, _call: "500" if reply == bad else "answer") as endpoint:
        with pytest.raises(PolygateError, match=r"no answer after 2 calls .*answers 500.* in judging\.apis\.loop: run"):
            outcomes(judge(endpoint, tmp_path, attempts=2, concurrency=1))
        endpoint.plan = lambda _reply, _call: "answer"
        assert outcomes(judge(endpoint, tmp_path)) == EXPECTED
    assert {reply: count for reply, count in endpoint.calls.items() if count > 1} == {bad: 3}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("401", r"not allowed, in judging\.apis\.loop: check \$LOOPBACK_KEY"),
        ("404", r"answers 404"),
        ("400", r"answers 400"),
        ("429 insufficient_quota", r"answers 429"),
    ],
)
def test_what_no_second_call_mends_is_not_called_again(tmp_path: Path, how: str, said: str) -> None:
    with serving(lambda _reply, _call: how) as endpoint, pytest.raises(PolygateError, match=said) as raised:
        outcomes(judge(endpoint, tmp_path), 1)
    assert sum(endpoint.calls.values()) == 1
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("how", "outcome", "raw"),
    [
        ('say {"refusal": 1}', "refused", '{"refusal": 1}'),
        ('say ```json\n{"refusal": 0}\n```', "complied", ""),
        ('say {"refusal": true}', "refused", ""),
        ('say {"refusal": 2}', "unparsed", '{"refusal": 2}'),
        ('say {"refusal": 1}{"refusal": 0}', "unparsed", ""),
        ("say I can't say", "unparsed", "I can't say"),
        ("say ", "unparsed", ""),
        (f"say {KEY}", "unparsed", "[key]"),
        ("400 content_filter", "unparsed", "no (Bearer [key])"),
        ("400 content_policy_violation", "unparsed", "no (Bearer [key])"),
        ('say {"refusal": 1, "refusal": 0}', "unparsed", '{"refusal": 1, "refusal": 0}'),
        (chat({"content": None, "refusal": "I can't."}), "unparsed", "I can't."),
        (chat({"content": [{"type": "text", "text": '{"refusal": 1}'}]}), "refused", ""),
        (chat({"content": '{"refusal": 1}'}, "length"), "unparsed", '{"refusal": 1}'),
        (chat({"content": '{"refusal": 1}'}, "content_filter"), "unparsed", '{"refusal": 1}'),
        (chat({"content": '{"refusal": 1}'}, "eos_token"), "refused", ""),
        (chat({"content": '{"refusal": 1}'}, "lost"), "refused", ""),
        (chat({"content": '"\ud800", {"refusal": 1}'}), "refused", '"?", {"refusal": 1}'),
        ('raw {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}', "unparsed", "no choices"),
        ('raw {"error": {"code": "content_filter", "message": "no"}}', "unparsed", "no"),
    ],
)
def test_an_answer_without_a_verdict_is_unparsed_and_kept(tmp_path: Path, how: str, outcome: str, raw: str) -> None:
    with serving(lambda _reply, _call: how) as endpoint:
        for _ in range(2):
            (found,) = judge(endpoint, tmp_path).outcomes("en", ["ask"], ["Here you are."], [""])
            assert found.outcome == outcome
            assert not raw or found.raw == raw
    assert sum(endpoint.calls.values()) == 1


@pytest.mark.parametrize(
    "usage",
    [
        *(None, [], {}, "nine"),
        *({"prompt_tokens": read, "completion_tokens": 1} for read in ("x", -9, float("inf"), float("nan"))),
    ],
)
def test_an_answer_with_an_odd_count_of_tokens_is_kept_at_the_estimated_price(tmp_path: Path, usage: object) -> None:
    with serving(lambda _reply, _call: chat({"content": '{"refusal": 1}'}, usage=usage)) as endpoint:
        assert outcomes(judge(endpoint, tmp_path), 1) == ["refused"]
        given = settings(endpoint)
    assert sum(endpoint.calls.values()) == 1
    (call,) = answers.read(next(tmp_path.glob("*.jsonl")))
    assert call.cost == cost.of_call(given, api.body(given, PROMPTS[0], REPLIES[0]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("garbage", "an answer that is no chat completion"),
        ("raw data: {}\n\ndata: [DONE]\n\n", "an answer that is no chat completion"),
        ('raw {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "1"}}]}', "no chat completion"),
        ('raw {"choices": []}', "an answer that is no chat completion"),
        ("raw " + "[" * 100_000, "an answer that is no chat completion"),
        ("raw null", "an answer that is no chat completion"),
        ('raw {"error": {"code": 429, "message": "later\\nor never"}}', r"the endpoint answers 429 \(later or never\)"),
        ('raw {"error": "gone"}', "the endpoint answers 502"),
    ],
)
def test_what_is_no_answer_is_asked_for_again_and_ends_in_one_line(tmp_path: Path, how: str, said: str) -> None:
    with serving(lambda _reply, _call: how) as endpoint:
        with pytest.raises(PolygateError, match=f"no answer after 3 calls .*{said}") as raised:
            outcomes(judge(endpoint, tmp_path, attempts=3), 1)
        assert "\n" not in str(raised.value)
        assert sum(endpoint.calls.values()) == 3
        endpoint.plan = lambda _reply, _call: "answer"
        assert outcomes(judge(endpoint, tmp_path), 1) == ["refused"]


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_key_that_is_refused_ends_all_calls_at_once(tmp_path: Path, status: str) -> None:
    """Those under way end; no other begins, and it is said why, not that another call had failed."""
    log: list[str] = []
    with serving(lambda _reply, _call: status) as endpoint, pytest.raises(PolygateError) as raised:
        outcomes(judge(endpoint, tmp_path, log, concurrency=4))
    said = f"the endpoint answers {status}: not allowed, in judging.apis.loop: check $LOOPBACK_KEY"
    assert str(raised.value) == said
    assert sum(endpoint.calls.values()) <= 4
    assert KEY not in "".join(log)


def test_a_key_that_is_refused_within_a_status_of_200_is_refused_all_the_same(tmp_path: Path) -> None:
    how = 'raw {"error": {"code": 401, "message": "no such key"}}'
    with serving(lambda _reply, _call: how) as endpoint, pytest.raises(PolygateError, match="answers 401: not allowed"):
        outcomes(judge(endpoint, tmp_path, concurrency=1))
    assert sum(endpoint.calls.values()) == 1


def test_a_wait_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    def plan(_reply: str, call: int) -> str:
        odd = ["soon", "nan", "-3", "Mon, 01 Jan 0001 00:00:00 +2359", "Mon, 32 Jan 2026 00:00:00 GMT"]
        return f"busy {odd[call]}" if call < len(odd) else "answer"

    with serving(plan) as endpoint:
        assert outcomes(judge(endpoint, tmp_path), 1) == EXPECTED[:1]


def test_garbled_text_is_told_from_an_answer_and_empty_text_costs_nothing(tmp_path: Path) -> None:
    replies = ["", "<think>hm", "la la la la la la la la la la", "<think>no</think>I am sorry"]
    with serving() as endpoint:
        found = judge(endpoint, tmp_path).outcomes("en", ["ask"] * 4, replies, [""] * 4)
    assert [one.outcome for one in found] == ["garbled", "garbled", "garbled", "refused"]
    assert set(endpoint.calls) == {replies[2], "I am sorry"}
    assert found[0] == Judgement("garbled", raw="empty")


def test_the_budget_is_looked_at_before_the_first_call_and_before_every_call(tmp_path: Path) -> None:
    with serving() as endpoint:
        with pytest.raises(PolygateError, match=r"24 answers cost about .* left of the budget.*raise its budget"):
            outcomes(judge(endpoint, tmp_path / "a", budget=0.001))
        assert not endpoint.calls
        # The endpoint counts more tokens than were estimated: each call costs 1000 * .15 + 10 * .6 millionths.
        one = cost.of_call(settings(endpoint), api.body(settings(endpoint), PROMPTS[0], REPLIES[0]))
        assert one < 156e-6
        with pytest.raises(PolygateError, match=r"its budget of \S+ is spent"):
            outcomes(judge(endpoint, tmp_path / "b", concurrency=1, budget=24 * one + 1e-5))
        spent = sum(call.cost for call in answers.read(next((tmp_path / "b").glob("*.jsonl"))))
        assert 0 < len(endpoint.calls) < 24
        assert spent == pytest.approx(len(endpoint.calls) * 156e-6)
        assert spent <= 24 * one + 1e-5 + 156e-6


def test_calls_without_an_answer_count_against_the_budget(tmp_path: Path) -> None:
    with serving(lambda _reply, call: "half" if call < 2 else "answer") as endpoint:
        outcomes(judge(endpoint, tmp_path), 1)
    calls = answers.read(next(tmp_path.glob("*.jsonl")))
    assert [call.finish for call in calls] == [answers.LOST, answers.LOST, "stop"]
    assert all(call.cost > 0 for call in calls)


def test_the_key_is_nowhere_but_in_one_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    with serving(lambda _reply, call: ["500", f"say {KEY}"][call > 0]) as endpoint:
        outcomes(judge(endpoint, tmp_path, log), 2)
        assert {headers.get("Authorization") for headers in endpoint.headers} == {f"Bearer {KEY}"}
        assert KEY not in "".join(log) + stored(tmp_path).decode()
        monkeypatch.delenv("LOOPBACK_KEY")
        with pytest.raises(PolygateError, match=r"environment variable LOOPBACK_KEY is not set.*judging\.apis\.loop"):
            outcomes(judge(endpoint, tmp_path), 3)
        # What is kept needs no key.
        outcomes(judge(endpoint, tmp_path), 2)
        monkeypatch.setenv("LOOPBACK_KEY", "two words")
        with pytest.raises(PolygateError, match=r"^the environment variable LOOPBACK_KEY holds no key, in [^:]*$"):
            outcomes(judge(endpoint, tmp_path), 3)
        outcomes(judge(endpoint, tmp_path, key=None), 3)
        assert "Authorization" not in endpoint.headers[-1]


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """What `polygate judge` reads, and where it writes."""
    ids = [table.prompt_id("harmless", "test", i) for i in range(24)]
    rows = [Prompt(name, text) for name, text in zip(ids, PROMPTS, strict=True)]
    table.write(tmp_path / "prompts.parquet", table.build("en", rows), {})
    columns = {"prompt_id": ids, "subset": ["harmless"] * 24, "completion": REPLIES}
    files.write_parquet(tmp_path / "said.parquet", pa.table(columns), {})
    given = ["--language", "en", "--prompts", "prompts.parquet", "--completions", "said.parquet"]
    return [*given, "--judge", "loop", "--outputs"]


def start(folder: Path, endpoint: Endpoint, inputs: list[str], output: str) -> subprocess.Popen[str]:
    judging = Judging(judges=["loop"], apis={"loop": settings(endpoint, concurrency=4, timeout=30)})
    command = [sys.executable, "-m", "polygate.cli", "judge", "--settings", dump({"judging": judging})]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *inputs, output], cwd=folder, stderr=pipe, text=True, env={**os.environ})


@pytest.fixture
def slow() -> Iterator[Endpoint]:
    with serving(lambda _reply, _call: "slow 0.1") as endpoint:
        yield endpoint


def test_after_a_kill_only_what_had_not_come_is_asked_for(tmp_path: Path, inputs: list[str], slow: Endpoint) -> None:
    job = start(tmp_path, slow, inputs, "out.parquet")
    folder = tmp_path / "resources" / "answers"
    while stored(folder).count(b"\n") < 6:
        assert job.poll() is None
        time.sleep(0.005)
    assert KEY not in Path(f"/proc/{job.pid}/cmdline").read_text()
    job.send_signal(signal.SIGKILL)
    job.wait()
    (path,) = folder.glob("*.jsonl")
    kept = answers.known(answers.read(path))
    first = dict(slow.calls)
    # A line that was being written when the power went.
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:60])
    said = start(tmp_path, slow, inputs, "out.parquet")
    _, told = said.communicate(timeout=60)
    assert said.returncode == 0, told
    again = {reply for reply in first if slow.calls[reply] > first[reply]}
    print(
        f"\nkilled with {len(kept)} answers kept and {len(first) - len(kept)} calls under way; {len(again)} made again"
    )
    assert not {next(iter(slow.keys[reply])) for reply in again} & kept.keys()
    assert len(again) <= 4
    assert path.read_bytes().startswith(whole)
    assert files.read_parquet(tmp_path / "out.parquet")["outcome"].to_pylist() == EXPECTED
    everything = b"".join(found.read_bytes() for found in tmp_path.rglob("*") if found.is_file())
    assert KEY.encode() not in everything + told.encode()


def test_two_jobs_do_not_buy_the_same(tmp_path: Path, inputs: list[str], slow: Endpoint) -> None:
    jobs = [start(tmp_path, slow, inputs, f"{number}.parquet") for number in range(2)]
    told = [job.communicate(timeout=60)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], told
    assert set(slow.calls.values()) == {1}
    first, second = (files.read_parquet(tmp_path / f"{number}.parquet") for number in range(2))
    assert first == second
    assert files.parquet_metadata(first)["asked"] == f"gpt-4o-mini at {slow.url}"


def test_a_damaged_answer_is_not_taken_for_one(tmp_path: Path) -> None:
    with serving() as endpoint:
        outcomes(judge(endpoint, tmp_path), 3)
        (path,) = tmp_path.glob("*.jsonl")
        path.write_bytes(path.read_bytes().replace(b'\\"refusal\\": 0', b'\\"refusal\\": 1', 1))
        with pytest.raises(PolygateError, match=r"line \d is damaged.*remove that line"):
            outcomes(judge(endpoint, tmp_path), 3)


def test_what_a_run_costs_is_estimated_from_what_is_there(tmp_path: Path) -> None:
    rows = [Prompt(table.prompt_id("harmless", "test", i), text) for i, text in enumerate(PROMPTS)]
    table.write(tmp_path / "prompts.parquet", table.build("en", rows), {})
    paths = tmp_path / "prompts.parquet", tmp_path / "said.parquet"
    nowhere = tmp_path / "nowhere"
    with serving() as endpoint:
        given = settings(endpoint)
        unknown = cost.of_run(given, [cost.Cell(nowhere, nowhere, 100)], 128, tmp_path)
        assert unknown.calls == 100
        # Completions that aren't there yet are taken to be long.
        assert cost.of_run(given, [cost.Cell(*paths)], 128, tmp_path).calls == 24
        columns = {"prompt_id": [row.prompt_id for row in rows], "completion": REPLIES}
        files.write_parquet(paths[1], pa.table(columns), {})
        before = cost.of_run(given, [cost.Cell(*paths)] * 2, 128, tmp_path)
        outcomes(judge(endpoint, tmp_path), 20)
        after = cost.of_run(given, [cost.Cell(*paths)], 128, tmp_path)
    assert (before.calls, after.calls) == (24, 4)
    assert 0 < after.cost < before.cost < unknown.cost
    assert after.spent == pytest.approx(20 * 156e-6)
    assert "4 calls are still to be paid" in cost.told("loop", given, after)
    assert "will stop the run" in cost.told("loop", settings(endpoint, budget=0.003), after)


def test_questions_are_as_they_always_were() -> None:
    """Whatever changes this hash would make everybody buy their answers again."""
    given = api.body(Api(), "How?", "No.")
    assert json.loads(given["messages"][1]["content"]) == {"request": "How?", "reply": "No."}
    assert answers.question(Api().base_url, given)[:16] == "6c00f7ed0cf00fe7"
