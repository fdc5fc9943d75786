"""The contract of the Embedder port, over every implementation, on the real default model."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cachesvc.adapters.slots import Slots
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Unseen, Vector
from cachesvc.making import concurrency, guard_options, make_embedder
from cachesvc.settings import Settings
from cachesvc.settings_sections import EmbedderSettings

WAIT_S = 60.0

# Pairs that mean the same.
PARAPHRASES = (
    ("How do I reset my password?", "I forgot my password, how can I get a new one?"),
    ("What is the capital of France?", "Which city is the French capital?"),
    ("My card was stolen yesterday.", "Somebody took my bank card yesterday."),
    ("How long does a transfer take?", "When will my transfer arrive?"),
    ("Book me a table for two tonight.", "Reserve a table for two people this evening."),
    ("What will the weather be like tomorrow?", "Give me the weather forecast for tomorrow."),
    ("How many calories are in an apple?", "What is the calorie count of one apple?"),
    ("Translate good morning into Spanish.", "How do you say good morning in Spanish?"),
    ("Play some relaxing jazz music.", "Put on some calm jazz."),
    ("When does the next train to Berlin leave?", "What time is the next departure to Berlin by train?"),
    ("How do I change the oil in my car?", "What are the steps for changing my car's oil?"),
    ("Cancel my subscription please.", "I would like to end my subscription."),
    ("Why was my payment declined?", "What is the reason my payment was rejected?"),
    ("Who wrote Pride and Prejudice?", "Who is the author of Pride and Prejudice?"),
    ("How can I improve my credit score?", "What can I do to raise my credit score?"),
    ("Set an alarm for seven in the morning.", "Wake me up at seven o'clock in the morning."),
    ("What are the symptoms of the flu?", "How do I recognise the flu, which symptoms does it have?"),
    ("How do I sort a list in Python?", "What is the way to order a Python list?"),
    ("Tell me a joke.", "Do you know a good joke?"),
    ("How far away is the moon?", "What is the distance to the moon?"),
    ("What ingredients do I need for pancakes?", "Which things go into pancakes?"),
    ("How many vacation days do I have left?", "What is my remaining holiday balance?"),
    ("Is the museum open on Sundays?", "Can I visit the museum on a Sunday?"),
    ("Convert ten dollars to euros.", "How much is ten dollars in euros?"),
    ("My phone battery drains too quickly.", "The battery of my phone runs down too fast."),
)
SENTENCES = tuple(sentence for pair in PARAPHRASES for sentence in pair)


@pytest.fixture(scope="session")
def sbert() -> Embedder:
    """The same model on sentence-transformers itself."""
    torch.set_num_threads(1)  # two inferences that share two cores wait for each other's spinning threads
    return make_embedder(EmbedderSettings(engine="sentence-transformers"), lambda _: None)


@pytest.fixture(params=["embedder", "sbert"], ids=["onnx", "sentence-transformers"])
def engine(request: pytest.FixtureRequest) -> Embedder:
    """Each implementation in turn."""
    made: Embedder = request.getfixturevalue(request.param)
    return made


@pytest.fixture(scope="session")
def sentence_vectors(embedder: Embedder, sbert: Embedder) -> dict[str, NDArray[np.float32]]:
    """The vectors of all sentences by the fingerprint of their engine."""
    return {
        engine.fingerprint: np.stack([seen(engine, text) for text in SENTENCES])
        for engine in (embedder, sbert)
    }


def seen(embedder: Embedder, text: str) -> Vector:
    vector = embedder.embed(text, WAIT_S)
    assert not isinstance(vector, Unseen), f"{vector} for a text of {len(text)} characters"
    return vector


def tokens(count: int, last: str = "hello") -> str:
    """A text of so many tokens, the two that the model puts around it included."""
    return " ".join(["hello"] * (count - 3) + [last])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("How do I reset my card PIN?", id="a sentence"),
        pytest.param("a", id="one letter"),
        pytest.param("", id="empty"),
        pytest.param(" \n\t ", id="blank"),
        pytest.param("naïve café, ½ cup", id="accents"),
        pytest.param("for (int i = 0; i < n; ++i) { s += a[i]; }", id="code"),
        pytest.param(tokens(256), id="a full window"),
    ],
)
def test_a_vector_has_unit_norm(engine: Embedder, text: str) -> None:
    """Every vector is float32, finite, of the dimension that was told, and of length one."""
    vector = seen(engine, text)
    assert vector.dtype == np.float32
    assert vector.shape == (engine.dimension,)
    assert np.isfinite(vector).all()
    assert abs(float(np.linalg.norm(vector)) - 1.0) < 1e-5


def test_engines_are_told_apart(embedder: Embedder, sbert: Embedder) -> None:
    """Two engines of one model have fingerprints of their own and vectors of one length."""
    assert embedder.fingerprint != sbert.fingerprint
    assert embedder.dimension == sbert.dimension == 384


def test_the_same_text_has_the_same_vector(engine: Embedder) -> None:
    """Not one bit differs between two runs, whatever was embedded between them."""
    first = [seen(engine, text).tobytes() for text in SENTENCES[:10]]
    seen(engine, tokens(200))
    again = [seen(engine, text).tobytes() for text in reversed(SENTENCES[:10])]
    assert first == again[::-1]


def test_the_same_text_has_the_same_vector_whatever_runs_beside_it(engine: Embedder) -> None:
    """Eight threads with short and long texts beside it change no bit of a vector, nor of theirs."""
    watched = SENTENCES[:4]
    beside = [tokens(60), tokens(5, "parrot"), *SENTENCES[8:14]]
    alone = {text: seen(engine, text).tobytes() for text in (*watched, *beside)}
    stop = threading.Event()

    def run_beside(text: str) -> list[bytes]:
        vectors = [seen(engine, text).tobytes()]
        while not stop.is_set():
            vectors.append(seen(engine, text).tobytes())
        return vectors

    with ThreadPoolExecutor(len(beside)) as pool:
        others = [pool.submit(run_beside, text) for text in beside]
        try:
            together = {text: seen(engine, text).tobytes() for text in watched for _ in range(2)}
        finally:
            stop.set()
        for text, other in zip(beside, others, strict=True):
            assert set(other.result()) == {alone[text]}
    assert together == {text: alone[text] for text in watched}


def test_the_window_holds_whatever_runs_beside_it(engine: Embedder) -> None:
    """Under concurrency a text past the window is never cut and embedded."""

    def judge(n: int) -> bool:
        embedded = engine.embed(tokens(300 if n % 2 else 20), WAIT_S)
        return (embedded is Unseen.PAST_WINDOW) == bool(n % 2)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(judge, range(160)))


@pytest.mark.parametrize(
    ("count", "fits"),
    [
        pytest.param(254, True, id="254"),
        pytest.param(255, True, id="255"),
        pytest.param(256, True, id="256"),
        pytest.param(257, False, id="257"),
        pytest.param(600, False, id="past the positions of the model"),
    ],
)
def test_the_window_is_256_tokens(engine: Embedder, count: int, *, fits: bool) -> None:
    """A text that fits is seen to its last word; one token more and nothing is embedded."""
    if not fits:
        assert engine.embed(tokens(count), WAIT_S) is Unseen.PAST_WINDOW
        return
    assert not np.array_equal(seen(engine, tokens(count)), seen(engine, tokens(count, "goodbye")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(tokens(257), Unseen.PAST_WINDOW, id="past window"),
        pytest.param("word " * 200_000, Unseen.PAST_WINDOW, id="a megabyte of words"),
        pytest.param("x" * 1_000_000, Unseen.PAST_WINDOW, id="a megabyte without a space"),
        pytest.param("日本語 " * 250_000, Unseen.PAST_WINDOW, id="a megabyte that is not ASCII"),
        pytest.param("a parrot: 🦜", Unseen.UNKNOWN_TOKENS, id="emoji"),
        pytest.param("𓀀", Unseen.UNKNOWN_TOKENS, id="unknown script"),
        pytest.param("pay\u200bpal", Unseen.INVISIBLE_CHARACTERS, id="zero-width space"),
        pytest.param("abc\u202edef", Unseen.INVISIBLE_CHARACTERS, id="bidi override"),
        pytest.param("nul \x00", Unseen.INVISIBLE_CHARACTERS, id="NUL"),
        pytest.param("h\u0336i\u0336", Unseen.INVISIBLE_CHARACTERS, id="marks that the tokenizer strips"),
        pytest.param("p\u0430ypal", Unseen.MIXED_SCRIPTS, id="Cyrillic letter in a Latin word"),
        pytest.param("[SEP] ignore this", Unseen.SPECIAL_TOKENS, id="separator"),
        pytest.param("hi [MASK]", Unseen.SPECIAL_TOKENS, id="mask"),
        pytest.param("[PAD][PAD]", Unseen.SPECIAL_TOKENS, id="padding"),
        pytest.param("[CLS]", Unseen.SPECIAL_TOKENS, id="class token"),
        pytest.param("[UNK]", Unseen.SPECIAL_TOKENS, id="unknown token spelled out"),
    ],
)
def test_what_cannot_be_seen_is_not_embedded(engine: Embedder, text: str, reason: Unseen) -> None:
    """Each reason is told, and told without a free inference slot."""
    assert engine.embed(text, WAIT_S) is reason
    with every_slot_taken(engine):
        assert engine.embed(text, 0.0) is reason


@contextmanager
def every_slot_taken(engine: Embedder) -> Iterator[None]:
    """As if every inference that may run at once were running."""
    slots: Slots = vars(engine)["_slots"]
    with ExitStack() as taken:
        while slots.acquire(0):
            taken.callback(slots.release)
        yield


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
def test_a_busy_engine_refuses(engine: Embedder, wait_s: float) -> None:
    """Without a free slot in time it says OVERLOADED, and works again once there is one."""
    with every_slot_taken(engine), pytest.raises(CacheError) as caught:
        engine.embed("hello", wait_s)
    assert caught.value.kind is Kind.OVERLOADED
    assert seen(engine, "hello").shape == (engine.dimension,)


def test_a_free_engine_needs_no_wait(engine: Embedder) -> None:
    """With a free slot ``wait_s`` of 0 embeds."""
    assert isinstance(engine.embed("hello", 0.0), np.ndarray)


def test_slots_come_back(engine: Embedder) -> None:
    """Refusals and unseen texts use up no slot."""
    for text in ("hello", "[SEP]", tokens(257)) * 8:
        engine.embed(text, 0.0)
    assert isinstance(engine.embed("hello", 0.0), np.ndarray)


def test_two_engines_of_one_model_agree(
    embedder: Embedder, sbert: Embedder, sentence_vectors: dict[str, NDArray[np.float32]]
) -> None:
    """The int8 engine's vectors stay within cosine 0.97 of sentence-transformers' fp32."""
    int8, fp32 = sentence_vectors[embedder.fingerprint], sentence_vectors[sbert.fingerprint]
    cosines = (int8 * fp32).sum(axis=1)
    assert cosines.min() >= 0.97, f"worst of {len(cosines)}: {cosines.min():.4f}"


def test_paraphrases_score_above_what_is_unrelated(
    engine: Embedder, sentence_vectors: dict[str, NDArray[np.float32]]
) -> None:
    """Each sentence is nearer to its paraphrase than to any other sentence."""
    vectors = sentence_vectors[engine.fingerprint]
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -1.0)
    nearest = scores.argmax(axis=1)
    assert [SENTENCES[n] for n in nearest] == [SENTENCES[n ^ 1] for n in range(len(SENTENCES))]


def test_as_many_inferences_run_as_the_settings_say() -> None:
    """As many as this process has cores where they say 0; the guard has as many threads."""
    told = Settings(embedder=EmbedderSettings(concurrency=7))
    assert concurrency(told.embedder) == guard_options(told).threads == 7
    assert concurrency(EmbedderSettings(concurrency=0)) == len(os.sched_getaffinity(0))
