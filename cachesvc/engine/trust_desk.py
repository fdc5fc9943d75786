"""What an operator sees of trust, and may change by hand: which rule decides, and whether others may take its place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.policy import Policy
from cachesvc.core.selection import Selector
from cachesvc.core.trust.labels import Label, Origin, Tally
from cachesvc.core.trust.life import VOTING, Audited, kept_rules, pinned
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Stance, Step, TrustState
from cachesvc.engine.trust import Changed, Life, Trust
from cachesvc.engine.trust_parts import TrustParts

_PAGE_COUNT = 256
_HINTS_FROM_COUNT = 1000  # namespaces with entries, the largest first, that may have been meant


@dataclass(frozen=True, slots=True)
class NamespaceReport:
    """What is known of a namespace's hits. ``audited`` is None before there was an audit."""

    state: TrustState
    policy: Policy
    stance: Stance
    labels: Mapping[Origin, int]
    tally: Tally
    audited: Audited | None
    vetoes: int


class TrustDesk:
    """Thread-safe. Raises NOT_FOUND, FULL or UNAVAILABLE.

    A namespace is there once anything is stored in it or known of it, or a policy has its name. Asked about another,
    which is a mistyped one, the desk says so, and nothing is kept of it.
    """

    def __init__(self, parts: TrustParts, trust: Trust, life: Life) -> None:
        self._parts = parts
        self._trust = trust
        self._life = life

    def report(self, namespace: str) -> NamespaceReport:
        """Of one namespace, whether or not anything is known of it."""
        self._refuse_unknown(namespace)
        return self._report(namespace)

    def _report(self, namespace: str) -> NamespaceReport:
        store, policy = self._parts.trust, self._parts.policies().of(namespace)
        state = store.state(namespace) or TrustState(namespace)
        return NamespaceReport(
            state,
            policy,
            self._life.stance(state, policy),
            store.label_counts(namespace),
            store.tally(namespace),
            self._life.audited(state, policy),
            store.veto_count(namespace),
        )

    def reports(self, limit: int) -> list[NamespaceReport]:
        """Of the namespaces of which anything is known, those with most lookups first."""
        store = self._parts.trust
        names = store.namespaces()
        searched = {name: store.tally(name).searched for name in names} if len(names) > limit else {}
        names.sort(key=lambda name: (-searched.get(name, 0), name))
        reports = [self._report(name) for name in names[:limit]]
        return sorted(reports, key=lambda one: (-one.tally.searched, one.state.namespace))

    def revert(self, namespace: str, version: int) -> Rule:
        """Put an earlier rule in force, and keep it there."""
        self._refuse_unknown(namespace)
        rule = self._rule(namespace, version)
        step = Step(self._parts.clock.now_ms(), f"rule {version} was put in force, and pinned, by hand")

        def change(state: TrustState) -> Changed:
            after = pinned(state, version, step)
            return Changed(after.state, after.steps)

        self._trust.change(namespace, change)
        return rule

    def unpin(self, namespace: str) -> None:
        """Let the namespace adopt rules again."""
        self._refuse_unknown(namespace)
        step = Step(self._parts.clock.now_ms(), "the rule was unpinned by hand")

        def change(state: TrustState) -> Changed:
            return Changed(replace(state, pinned=False).stepped(step), [step])

        self._trust.change(namespace, change)

    def labels(self, namespace: str) -> Iterator[Sequence[Label]]:
        """Those that are kept, the oldest first, some at a time."""
        after = 0
        while page := self._parts.trust.labels(namespace, after, _PAGE_COUNT):
            yield [label for _, label in page]
            after = page[-1][0]

    def tally(self, namespace: str) -> Tally:
        """What the namespace's lookups came to."""
        self._refuse_unknown(namespace)
        return self._parts.trust.tally(namespace)

    def _refuse_unknown(self, namespace: str) -> None:
        parts = self._parts
        named, known = parts.policies().named, parts.trust.namespaces()
        if namespace in named or namespace in known:
            return
        found = parts.store.select(Selector(namespace=namespace), None, 1)
        if found.matches or found.damaged:
            return
        stored = [held.namespace for held in parts.store.usage(_HINTS_FROM_COUNT)]
        near = get_close_matches(namespace, {*named, *known, *stored})
        hint = f": is {' or '.join(near)} meant?" if near else ""
        raise CacheError(
            Kind.NOT_FOUND,
            f"namespace: there is no {namespace}: nothing is stored in it or known of it, and no policy has its name{hint}",
        )

    def _rule(self, namespace: str, version: int) -> Rule:
        if version == 0:
            return Rule(0, self._parts.policies().of(namespace).min_score)
        policy = self._parts.policies().of(namespace)
        state = self._parts.trust.state(namespace) or TrustState(namespace)
        found = {rule.version: rule for rule in kept_rules(state, policy)}
        if version == VOTING and version not in found:
            raise CacheError(
                Kind.NOT_FOUND,
                f"version: rule {version}, score and votes, is for namespaces whose policy states max_error_rate; that of "
                f"{namespace} states a threshold",
            )
        if version not in found:
            known = "".join(f", {one}" for one in sorted(found))
            raise CacheError(
                Kind.NOT_FOUND,
                f"version: namespace {namespace} has no rule {version}; kept are 0, which is the policy's threshold{known}",
            )
        return found[version]
