"""The dispatcher: a router, a base model and a registry of adapters that answer as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ual_registry.dispatch.adapter_cache import CacheStatistics
from ual_registry.dispatch.answer import BASE, Answer, AnswerPiece, Fallback
from ual_registry.dispatch.answering import Answerer
from ual_registry.dispatch.calibration import Target
from ual_registry.dispatch.choice import AdapterChooser
from ual_registry.dispatch.decision import Decision
from ual_registry.dispatch.domains import Domains
from ual_registry.dispatch.encode import TextEncoder
from ual_registry.dispatch.fit import FitReport
from ual_registry.dispatch.generate import Prompt, ReadPrompt, Settings
from ual_registry.dispatch.log import DecisionLog
from ual_registry.dispatch.logged_choice import LoggedChooser, check_counts
from ual_registry.dispatch.overlap import Overlap
from ual_registry.dispatch.router import Router
from ual_registry.dispatch.saved import read_dispatcher, write_dispatcher
from ual_registry.dispatch.sources import AdapterSource
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.registry.registry import Registry

__all__ = ["LoRADispatcher"]

_CACHE_BYTES = 1 << 30


class LoRADispatcher:
    """Answers every query with the adapter of its domain; threads may share it.

    What a domain's reference means is asked at every call, so that an alias that moves is followed at once. The base
    model's weights are never changed. A context manager; ``close`` takes everything off the base model again.

    Args:
        router: Which domain a query belongs to: a router, or its file; ``train_router`` makes one.
        base: The base model, or its folder; without one, queries are routed and not answered.
        registry: Where adapters are; the usual one where absent.
        encoder: The router's sentence encoder, or its folder.
        adapters: References of adapters by domain, which come before those of the router.
        fallback: What answers where no adapter does: ``base``, ``refuse`` (a ``RouteError``), the reference of an
            adapter, or a function of query and decision that returns one of these.
        cache_bytes: Memory that adapters may take.
        log: Where decisions are logged, or the file.
        is_any_base: Whether adapters may run that were made for another base model.

    Raises:
        UALError: A file cannot be read, or the base model does not generate text.
    """

    def __init__(
        self,
        router: Router | str | Path | None = None,
        base: LoadedBase | str | Path | None = None,
        registry: Registry | None = None,
        *,
        encoder: TextEncoder | str | Path | None = None,
        adapters: Mapping[str, str] | None = None,
        fallback: Fallback = BASE,
        cache_bytes: int = _CACHE_BYTES,
        log: DecisionLog | str | Path | None = None,
        is_any_base: bool = False,
    ) -> None:
        self._domains = Domains(router, encoder, adapters or {})
        loaded = load_base_model(base) if isinstance(base, (str, Path)) else base
        self._source = AdapterSource(registry)
        compared = loaded.base if loaded is not None and not is_any_base else None
        self._chooser = AdapterChooser(self._source, compared)
        self._answerer = Answerer(loaded, self._source, cache_bytes, compared)
        own_log = DecisionLog(Path(log)) if isinstance(log, (str, Path)) else log
        self._choices = LoggedChooser(self._domains, self._chooser, own_log)
        self.fallback = fallback

    @property
    def router(self) -> Router | None:
        """The router."""
        return self._domains.router

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that it knows, sorted: those of the router, and those registered since."""
        return self._domains.names

    def register_domain(self, name: str, adapter: str | None = None, examples: Sequence[str] = ()) -> None:
        """Say which adapter answers a domain, and what its queries look like; both replace what was said before.

        An adapter is used from the next call on, examples from the next ``train_router`` on.

        Args:
            name: The domain.
            adapter: Reference of its adapter: ``name@alias`` is followed when the alias moves.
            examples: Queries that belong to it.

        Raises:
            BaseMismatchError: The adapter is for another base model.
            UALError: The registry does not hold it, or it cannot be read.
        """
        if adapter is not None:
            self.digest(adapter)
        self._domains.register(name, adapter, examples)

    def train_router(
        self,
        examples: Mapping[str, Sequence[str]] | None = None,
        *,
        target: Target | None = None,
        has_own_thresholds: bool = False,
        keeps_examples: bool = False,
        name: str | None = None,
        seed: int = 0,
    ) -> FitReport:
        """Train a router on the registered domains; it takes the place of the present one.

        Args:
            examples: Queries by domain, beside those that were registered.
            target: What its thresholds are to keep; 95 % of in-scope queries where absent.
            has_own_thresholds: Whether every domain with enough examples gets a threshold of its own.
            keeps_examples: Whether decisions can show examples.
            name: Name of the router.
            seed: Seeds clusters and held-out parts.

        Raises:
            RouteError: There is no encoder, a domain has too few examples, or the target cannot be reached.
            UALError: The adapter of a domain is not in the registry.
        """
        self._domains.extend(examples or {})
        return self._domains.train(
            self._chooser.moment().digest,
            target=target,
            has_own_thresholds=has_own_thresholds,
            keeps_examples=keeps_examples,
            name=name,
            seed=seed,
        )

    def route_query(self, query: str) -> Decision:
        """Say which adapter answers a query, or why none does; its digest is what the reference means now.

        Raises:
            RouteError: There is no router or encoder, or the query is empty.
            UALError: An adapter that is there cannot be read.
        """
        return self.route_queries([query])[0]

    def route_queries(self, queries: Sequence[str]) -> list[Decision]:
        """Decide about several queries, encoded together; see ``route_query``."""
        moment, references = self._chooser.moment(), self._domains.references
        return [moment.settled(decision, references) for decision in self._domains.route(queries)]

    def generate(
        self,
        query: str,
        *,
        prompt: Prompt | None = None,
        adapter: str | None = None,
        settings: Settings | None = None,
        is_plain: bool = False,
    ) -> Answer:
        """Answer a query.

        Args:
            query: What is routed.
            prompt: What the model goes on with where that is more than the query, such as the messages of a chat.
            adapter: Reference of the adapter to answer with; nothing is routed then.
            settings: How to generate.
            is_plain: Whether the query is given as it is, even where the model has a chat template.

        Raises:
            RouteError: The fallback is to refuse, or the query is empty or too long.
            BaseMismatchError: The adapter that was named is for another base model.
            UALError: An adapter cannot be read, or does not act.
        """
        prompts = None if prompt is None else [prompt]
        adapters = None if adapter is None else [adapter]
        return self.generate_batch([query], prompts=prompts, adapters=adapters, settings=settings, is_plain=is_plain)[0]

    def generate_batch(
        self,
        queries: Sequence[str],
        *,
        prompts: Sequence[Prompt] | None = None,
        adapters: Sequence[str | None] | None = None,
        settings: Settings | Sequence[Settings] | None = None,
        is_plain: bool = False,
    ) -> list[Answer]:
        """Answer several queries in mixed batches, in their order; see ``generate``.

        Nothing is generated where one of them is refused.

        Args:
            queries: The queries.
            prompts: What the model goes on with, for every query.
            adapters: The adapter to answer with, for every query; ``None`` among them is routed.
            settings: How to generate, for all queries or for every one.
            is_plain: As in ``generate``.

        Raises:
            RouteError: Something is given for more or fewer queries than there are; otherwise as ``generate``.
        """
        each = settings if isinstance(settings, Sequence) else [settings or Settings()] * len(queries)
        check_counts(queries, prompts=prompts, adapters=adapters, settings=each)
        given = queries if prompts is None else prompts
        rows = [self._answerer.generator.prompt_ids(prompt, is_plain=is_plain) for prompt in given]
        choices = self._choices.choose(queries, adapters, self.fallback)
        return self._answerer.answers(queries, rows, choices, each)

    def stream(
        self,
        query: str,
        *,
        prompt: Prompt | None = None,
        adapter: str | None = None,
        settings: Settings | None = None,
        is_plain: bool = False,
    ) -> Iterator[AnswerPiece]:
        """Answer a query piece by piece; the pieces make the text of ``generate``, whose arguments these are.

        The adapter is chosen and loaded before this returns; whoever stops asking for pieces stops the generation.

        Raises:
            UALError: As ``generate``.
        """
        row = self._answerer.generator.prompt_ids(query if prompt is None else prompt, is_plain=is_plain)
        (choice,) = self._choices.choose([query], [adapter], self.fallback)
        return self._answerer.pieces(row, choice, settings or Settings())

    def read_prompt(self, prompt: Prompt, *, is_plain: bool = False) -> ReadPrompt:
        """Return the token ids of a prompt, which stand for it; ``is_plain`` as in ``generate``.

        Raises:
            RouteError: The prompt is empty or too long, or there is no base model.
        """
        return ReadPrompt(self._answerer.generator.prompt_ids(prompt, is_plain=is_plain))

    def adapter_file(self, digest: str) -> Path:
        """Return the file of an adapter: the one that a reference named while it has these bytes, or the registry's.

        Raises:
            UALError: As ``AdapterSource.file``.
        """
        return self._source.file(digest)

    def digest(self, reference: str) -> str:
        """Return the digest of the adapter that a reference means now.

        Raises:
            UALError: The registry does not hold it, or it is for another base model.
        """
        return self._chooser.moment().fitting(reference)

    def preload(self, *references: str) -> list[Future[None]]:
        """Load adapters in the background, before a query needs them.

        Raises:
            UALError: As ``digest``.
        """
        moment = self._chooser.moment()
        digests = [moment.fitting(reference) for reference in references]
        return [self._answerer.preload(digest) for digest in digests]

    def pin(self, reference: str) -> str:
        """Keep the adapter that a reference means now in memory, and return its digest; ``unpin`` takes that.

        Raises:
            UALError: As ``digest``.
        """
        digest = self.digest(reference)
        self._answerer.cache.pin(digest)
        return digest

    def unpin(self, digest: str) -> None:
        """Let an adapter go again when its turn comes."""
        self._answerer.cache.unpin(digest)

    def cache_statistics(self) -> CacheStatistics:
        """Return what the cache of adapters holds and did."""
        return self._answerer.cache.statistics()

    def analyze_domain_overlap(self, examples: Mapping[str, Sequence[str]] | None = None) -> Overlap:
        """Say which domains are hard to tell apart, and which examples make them so.

        Args:
            examples: Queries by domain, best such as the router was not trained on; those registered where absent.

        Raises:
            RouteError: There is no router, encoder or example, or the router does not know a domain.
        """
        return self._domains.overlap(examples)

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write router, references and fallback to a folder; models and adapters stay where they are.

        Args:
            folder: The folder.
            force: Whether to replace one that is there.

        Raises:
            RouteError: There is no router, or the fallback is a function, which no file can hold.
            StorageError: The file system refuses.
        """
        write_dispatcher(
            Path(folder), self._domains.need_router(), self._domains.references, self.fallback, force=force
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        base: LoadedBase | str | Path | None = None,
        registry: Registry | None = None,
        **options: Any,
    ) -> LoRADispatcher:
        """Read what ``save`` wrote.

        Args:
            folder: The folder.
            base: The base model, or its folder.
            registry: Where adapters are.
            options: Other arguments of the class, which come before what was saved.

        Raises:
            UALError: A file is missing or broken; otherwise as the class.
        """
        router, references, fallback = read_dispatcher(Path(folder))
        return cls(router, base, registry, **{"adapters": references, "fallback": fallback, **options})

    def close(self) -> None:
        """Let all adapters go, and take the hooks off the base model.

        An answer that another thread is generating ends with an error (code ``closed``) at its next token, and so does
        whatever is asked for afterwards.
        """
        self._answerer.close()

    def __enter__(self) -> LoRADispatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
