"""Trust over gRPC with the real model: misses label themselves, feedback vetoes, audits are told, operators see it."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

from cachesvc.cli import app
from cachesvc.v1 import admin_pb2
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub
from tests.conftest import Running
from tests.waiting import until

SOON_S = 15.0
STORED = "how do I change the address of my account"
ASKED = "how can I change my account's address"
NEAR = "how can I change the address of my account please"
FAR = "what does a replacement card cost"

COLOURS = ("red", "blue", "green", "black", "white", "yellow")
THINGS = ("bicycle", "table", "lamp", "coat", "kettle", "sofa", "mirror", "carpet")

Start = Callable[..., Running]


class Client:
    """What an application and an operator do."""

    def __init__(self, server: Running, namespace: str = "default") -> None:
        self.stub = server.stub
        self.namespace = namespace
        self._channel = grpc.insecure_channel(server.app.admin_rpc_address)
        self.admin = AdminServiceStub(self._channel)
        self.server = server

    def close(self) -> None:
        self._channel.close()

    def ask(self, prompt: str) -> pb.LookupResponse:
        return self.stub.Lookup(pb.LookupRequest(namespace=self.namespace, prompt=prompt), timeout=SOON_S)

    def store(self, prompt: str, response: str, lookup_id: str = "") -> pb.StoreResponse:
        return self.stub.Store(
            pb.StoreRequest(
                namespace=self.namespace,
                lookup_id=lookup_id,
                prompt=prompt,
                response=response.encode(),
                content_type="text/plain",
            ),
            timeout=SOON_S,
        )

    def miss(self, prompt: str, response: str) -> pb.LookupResponse:
        """Ask, and answer by the model."""
        found = self.ask(prompt)
        self.store(prompt, response, found.lookup_id)
        return found

    def say(self, **fields: Any) -> pb.SubmitFeedbackResponse:
        return self.stub.SubmitFeedback(
            pb.SubmitFeedbackRequest(namespace=self.namespace, **fields), timeout=SOON_S
        )

    def trust(self) -> admin_pb2.NamespaceTrust:
        return self.admin.GetTrust(admin_pb2.GetTrustRequest(namespace=self.namespace)).namespaces[0]

    def labels(self) -> list[admin_pb2.ListedLabel]:
        parts = self.admin.ListLabels(admin_pb2.ListLabelsRequest(namespace=self.namespace))
        return [label for part in parts for label in part.labels]

    def until(self, holds: Callable[[], bool]) -> None:
        until(holds, SOON_S, told=self.trust)


@pytest.fixture
def client(start: Start) -> Iterator[Callable[..., Client]]:
    """Makes clients, each of a server of its own with a policy."""
    made: list[Client] = []

    def make(**policy: Any) -> Client:
        server = start(
            policy={"default": {"min_score": 0.75, "gates": [], **policy}},
            trust={"round_interval_s": 0.1},
        )
        made.append(Client(server))
        return made[-1]

    yield make
    for one in made:
        one.close()


def code(call: Callable[[], object]) -> tuple[str, str, list[str]]:
    """What a call fails with: the code, the message and the fields at fault."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    wrong = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(wrong)
    return caught.value.code().name, status.message, [one.field for one in wrong.field_violations]


def test_misses_label_themselves(client: Callable[..., Client]) -> None:
    """A miss with something near becomes a label once it is answered, without a word from anybody."""
    one = client(min_score=0.99)
    one.miss(STORED, "Open Settings and choose Address.")
    one.miss(FAR, "A replacement card costs 5 euros.")
    assert one.miss(ASKED, "open settings and choose address").outcome == pb.OUTCOME_MISS_BELOW_THRESHOLD
    one.until(lambda: len(one.labels()) == 1)
    (label,) = one.labels()
    assert (label.origin, label.comparator, label.HasField("served")) == ("miss", "text", False)
    assert label.candidates[0].verdict == pb.VERDICT_RIGHT
    one.until(lambda: one.trust().tally.searched == 3)
    assert dict(one.trust().labels) == {"miss": 1}


def test_a_wrong_reuse_is_never_served_again(client: Callable[..., Client]) -> None:
    """Nor one much like it, nor after the entry is stored anew; the entry serves others on."""
    one = client()
    one.store(STORED, "Open Settings and choose Address.")
    hit = one.ask(ASKED)
    assert hit.outcome == pb.OUTCOME_HIT_SEMANTIC
    heard = one.say(lookup_id=hit.lookup_id, verdict=pb.VERDICT_WRONG, source="user")
    assert (heard.verdict, heard.known, heard.vetoed) == (pb.VERDICT_WRONG, False, True)
    assert one.ask(ASKED).outcome == pb.OUTCOME_MISS_VETOED
    assert one.say(lookup_id=hit.lookup_id, verdict=pb.VERDICT_WRONG).known
    one.store(STORED, "Call us.")
    assert one.ask(ASKED).outcome == pb.OUTCOME_MISS_VETOED
    assert one.ask("How can I change my account's address?").outcome == pb.OUTCOME_MISS_VETOED, "much like it"
    assert one.ask(STORED).outcome == pb.OUTCOME_HIT_EXACT
    trust = one.trust()
    assert (trust.vetoes, dict(trust.labels)) == (1, {"feedback": 1})


def test_an_entry_that_is_wrong_again_and_again_goes(client: Callable[..., Client]) -> None:
    """By entry and prompt as well, where the lookup is not remembered."""
    one = client(quarantine_after=2)
    entry_id = one.store(STORED, "Open Settings.").entry_id
    first = one.say(entry_id=entry_id, prompt=ASKED, verdict=pb.VERDICT_WRONG)
    assert (first.vetoed, first.quarantined) == (True, False)
    second = one.say(entry_id=entry_id, prompt=STORED, verdict=pb.VERDICT_WRONG)
    assert (second.vetoed, second.quarantined) == (False, True)
    assert one.ask(STORED).outcome == pb.OUTCOME_MISS_EMPTY


def test_a_hit_that_is_audited_asks_for_a_fresh_answer(client: Callable[..., Client]) -> None:
    """Reported by lookup_id it is compared, counted, and seen by the operator."""
    one = client(audit_share=1.0, max_audit_share=1.0)
    one.store(STORED, "Open Settings and choose Address.")
    hit = one.ask(ASKED)
    assert (hit.outcome, hit.audit) == (pb.OUTCOME_HIT_SEMANTIC, True)
    fresh = pb.FreshAnswer(response=b"No such thing can be done.")
    heard = one.say(lookup_id=hit.lookup_id, fresh=fresh, source="audit")
    assert (heard.verdict, heard.vetoed) == (pb.VERDICT_WRONG, False)
    assert one.say(lookup_id=hit.lookup_id, fresh=fresh, source="audit").known
    one.until(lambda: one.trust().audited == 1)
    trust = one.trust()
    assert (trust.audited_wrong, trust.tally.audits_asked, trust.tally.audits_answered) == (1, 1, 1)
    assert 0 <= trust.false_hit_rate_low <= trust.false_hit_rate <= trust.false_hit_rate_high <= 1


def test_shadow_learns_and_serves_nothing(client: Callable[..., Client]) -> None:
    """What would have been served is recorded, and judged by the answers that follow."""
    one = client(mode="shadow")
    one.store(STORED, "Open Settings and choose Address.")
    assert one.miss(ASKED, "Open settings and choose address!").outcome == pb.OUTCOME_MISS_SHADOW
    one.until(lambda: len(one.labels()) == 1)
    (label,) = one.labels()
    assert (label.origin, label.served, label.share) == ("shadow", 0, 1.0)
    assert label.candidates[0].verdict == pb.VERDICT_RIGHT
    one.until(lambda: one.trust().tally.would_hit == 1)
    assert (one.trust().mode, one.trust().tally.served) == ("shadow", 0)


def test_a_rule_is_reverted_and_unpinned(client: Callable[..., Client]) -> None:
    """The policy's threshold can be put in force by hand, and stays until it is unpinned; what does not exist cannot."""
    one = client()
    answer = one.admin.RevertRule(admin_pb2.RevertRuleRequest(namespace="default", version=0))
    assert (answer.rule.kind, answer.rule.threshold) == ("cosine", 0.75)
    assert one.trust().pinned
    one.admin.UnpinRule(admin_pb2.UnpinRuleRequest(namespace="default"))
    trust = one.trust()
    assert not trust.pinned
    assert [step.what for step in trust.steps] == [
        "the rule was unpinned by hand",
        "rule 0 was put in force, and pinned, by hand",
    ]
    told = code(lambda: one.admin.RevertRule(admin_pb2.RevertRuleRequest(namespace="default", version=7)))
    assert told[0] == "NOT_FOUND"
    wrong = admin_pb2.RevertRuleRequest(namespace="No!", version=-1)
    assert code(lambda: one.admin.RevertRule(wrong))[::2] == ("INVALID_ARGUMENT", ["namespace", "version"])


def test_a_mistyped_namespace_is_said_not_to_be_there(client: Callable[..., Client]) -> None:
    """By each command that names one, with the one that is meant; a state of it is not kept."""
    one = client()
    at = ["--admin-server", one.server.app.admin_rpc_address]
    for arguments in (["--revert", "0"], ["--unpin"], []):
        slip = CliRunner().invoke(app, ["trust", "defualt", *arguments, *at])
        assert (slip.exit_code, slip.stdout) == (1, "")
        assert slip.stderr.startswith("cachesvc: NOT_FOUND: namespace: there is no defualt: ")
        assert slip.stderr.endswith("is default meant?\n")
    asked = admin_pb2.ListLabelsRequest(namespace="defualt")
    assert code(lambda: list(one.admin.ListLabels(asked)))[0] == "NOT_FOUND"
    assert not one.admin.GetTrust(admin_pb2.GetTrustRequest()).namespaces
    assert CliRunner().invoke(app, ["trust", "default", "--revert", "0", *at]).exit_code == 0
    assert [known.namespace for known in one.admin.GetTrust(admin_pb2.GetTrustRequest()).namespaces] == [
        "default"
    ]


def test_every_namespace_of_which_anything_is_known_is_told(client: Callable[..., Client]) -> None:
    """The busiest first."""
    one = client()
    other = Client(one.server, "busy")
    for n in range(3):
        other.miss(f"what is the answer to question {n}", "x")
    one.miss(FAR, "A replacement card costs 5 euros.")
    everything = admin_pb2.GetTrustRequest()
    one.until(lambda: len(one.admin.GetTrust(everything).namespaces) == 2)
    assert [trust.namespace for trust in one.admin.GetTrust(everything).namespaces] == ["busy", "default"]
    other.close()


def test_an_answer_that_is_no_text_harms_no_lookup(client: Callable[..., Client]) -> None:
    """JSON may spell half a surrogate pair, which cannot be encoded: lookups near it, Explain and feedback go on."""
    one = client(max_error_rate=0.05, hold_back_share=0.0)
    answer = r'{"choices": [{"message": {"content": "Open Settings \ud800 and choose Address"}}]}'
    entry_id = one.store(STORED, answer).entry_id
    one.store(NEAR, answer)
    assert one.ask(ASKED).outcome in (pb.OUTCOME_HIT_SEMANTIC, pb.OUTCOME_MISS_HELD_BACK)
    explained = one.stub.Explain(pb.ExplainRequest(lookup=pb.LookupRequest(prompt=ASKED)), timeout=SOON_S)
    assert len(explained.candidates) == 2
    for fresh in (answer, answer.replace("Open", "Close"), "Open Settings and choose Address."):
        one.say(entry_id=entry_id, prompt=ASKED, fresh=pb.FreshAnswer(response=fresh.encode()))


ODD: dict[str, bytes] = {
    "no text": b"\xff\xfe" * 100,
    "nul": b"a\0b and more of it",
    "brackets without end": b"[" * 100_000,
    "nested deep": b'{"a":' * 900 + b'"one two three four"' + b"}" * 900,
    "a number of 250,000 digits": b"9" * 250_000,
    "a number beyond all bounds": b'{"answer": 1e99999999999999999999}',
    "no number": b'{"answer": NaN}',
    "a key twice": b'{"answer": "one two three four", "answer": 1}',
    "half a surrogate pair": b'{"answer": "one two three \\ud800 four"}',
    "3 MiB": b"word " * (3 << 20 // 5),
    "white space": b" " * 250_000 + b"one two three four",
    "one word of 250,000 letters": b"x" * 250_000,
    "unfolding": ("\ufdfa" * 80_000).encode(),
    "combining": ("a" + "\u0301" * 100_000).encode(),
    "right to left": "\u202eone two three four".encode(),
    "special tokens": b"[CLS] [SEP] [MASK] and [PAD]",
    "emoji": "👩\u200d🚀 one two three four".encode(),
}  # fmt: skip


def test_whatever_an_audit_answers_is_taken(client: Callable[..., Client]) -> None:
    """Odd answers, stored or fresh, are compared in time, once each, and lookups go on."""
    one = client(audit_share=1.0, max_audit_share=1.0, max_false_hit_rate=0.99)
    plain = (b"You choose Address there.", b'{"answer": "choose it there"}')
    pairs = [(stored, fresh) for stored in plain for fresh in ODD.values()]
    for stored, answer in [*pairs, *((odd, plain[0]) for odd in ODD.values())]:
        one.stub.Store(pb.StoreRequest(prompt=STORED, response=stored), timeout=SOON_S)
        hit = one.ask(ASKED)
        assert (hit.outcome, hit.audit) == (pb.OUTCOME_HIT_SEMANTIC, True)
        fresh = pb.FreshAnswer(response=answer)
        assert not one.say(lookup_id=hit.lookup_id, fresh=fresh).known
        assert one.say(lookup_id=hit.lookup_id, fresh=fresh).known
    one.until(lambda: one.trust().tally.audits_asked == len(ODD) * 3)


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, ["lookup_id", "verdict"]),
    "entry without request": ({"entry_id": "0" * 16, "verdict": 1}, ["prompt"]),
    "all fields": (
        {"lookup_id": "x!", "entry_id": "1", "model": "a\n", "verdict": 9, "source": "s" * 65},
        ["lookup_id", "entry_id", "model", "verdict", "source"],
    ),
    "source not printable": ({"lookup_id": "ab", "verdict": 1, "source": "a\nb"}, ["source"]),
    "an empty answer": ({"lookup_id": "ab", "fresh": pb.FreshAnswer(content_type="\n")},
                        ["fresh.response", "fresh.content_type"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_every_wrong_field_is_named(server: Running, case: tuple[dict[str, Any], list[str]]) -> None:
    """All at once."""
    fields, expected = case
    one = Client(server)
    assert code(lambda: one.say(**fields))[::2] == ("INVALID_ARGUMENT", expected)
    one.close()


def test_what_is_not_known_is_told_with_what_to_send(server: Running) -> None:
    """A lookup that is forgotten, and an entry of another namespace."""
    one = Client(server)
    answer = code(lambda: one.say(lookup_id="ab", verdict=pb.VERDICT_WRONG))
    assert answer[0] == "FAILED_PRECONDITION"
    assert "entry_id and the request" in answer[1]
    entry_id = one.store(STORED, "x").entry_id
    other = Client(server, "other")
    say = {"entry_id": entry_id, "prompt": ASKED, "verdict": pb.VERDICT_WRONG}
    assert code(lambda: other.say(**say))[0] == "NOT_FOUND"
    assert one.ask(STORED).outcome == pb.OUTCOME_HIT_EXACT
    for client in (one, other):
        client.close()


def test_the_threshold_opens_as_far_as_labels_defend(client: Callable[..., Client]) -> None:
    """With max_error_rate misses label themselves, and what was a miss at the policy's threshold becomes a hit."""
    one = client(min_score=0.97, max_error_rate=0.1, hold_back_share=0.0)
    things = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    before = one.trust().rule.threshold
    for thing in things:
        one.miss(f"what does a {thing} cost", f"about {len(thing)} euros for the {thing}")
        one.miss(f"what does the {thing} cost please", f"About {len(thing)} euros for the {thing}.")
    one.until(lambda: bool(one.trust().steps))
    trust = one.trust()
    assert trust.rule.threshold < before
    assert "opened from" in trust.steps[0].what
    assert trust.rule.version >= 0


def test_the_brake_trips_and_is_told(client: Callable[..., Client]) -> None:
    """Audits that find hits wrong again and again close the semantic tier; what would hit is labelled on."""
    one = client(audit_share=1.0, max_audit_share=1.0, max_false_hit_rate=0.05, quarantine_after=1000)
    for n in range(400):
        stored, asked = (
            f"how do I change setting {n} of my account",
            f"how can I change setting {n} of my account",
        )
        one.store(stored, f"Open Settings and choose {n}.")
        hit = one.ask(asked)
        if hit.outcome == pb.OUTCOME_MISS_BRAKED:
            break
        if hit.audit:
            one.say(lookup_id=hit.lookup_id, fresh=pb.FreshAnswer(response=b"Nobody can do that."))
    assert hit.outcome == pb.OUTCOME_MISS_BRAKED
    trust = one.trust()
    assert trust.brake == "exact_only"
    assert [step.what.partition(":")[0] for step in reversed(trust.steps)] == [
        "brake open → tight",
        "brake tight → exact_only",
    ]
    assert trust.false_hit_rate_low > 0.05
    assert one.ask("how do I change setting 0 of my account").outcome == pb.OUTCOME_HIT_EXACT
