"""One model for many callers: their captions and pictures share forward passes, whatever languages they are in."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from ccr_adapters.errors import BusyError, CaptionError, CCRError, ConfigError, ImageError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.registry import is_base
from ccr_adapters.processing.captions import check_captions
from ccr_adapters.processing.devices import default_device
from ccr_adapters.search.encoder import PictureEncoder
from ccr_adapters.search.interface import Vectors
from ccr_adapters.serving.batching import Batcher
from ccr_adapters.serving.languages import Languages

if TYPE_CHECKING:
    from typing_extensions import Self

_DOWNLOADS = 4


@dataclass(frozen=True)
class _Captions:
    texts: list[str]
    codes: list[str | None]


@dataclass(frozen=True)
class _Pictures:
    prepared: list[dict[str, Tensor]]


class Engine:
    """Encodes for many callers at once. Usable from threads and from asyncio, with or without a server around it.

    Args:
        model: The model, which from now on belongs to the engine's thread.
        places: Folders or repositories with more languages, loaded when they are asked for.
        max_batch: Captions or pictures a forward pass.
        max_wait_ms: Milliseconds that the first of a batch waits for others.
        max_queue: Most captions and pictures that may wait.
        max_languages: Most languages in memory at a time (`model.max_languages`).
        workers: Threads that decode pictures.
        on_batch: Told of each batch: `"text"` or `"image"`, how many, seconds.

    Raises:
        CCRError: If the places or the bounds do not fit; see `Languages` and `Batcher`.

    Example:
        >>> with Engine.load(["tiny_clip"]) as engine:
        ...     engine.submit_text(["a red star"], "en").result().shape
        (1, 128)
    """

    def __init__(
        self,
        model: CCRModel,
        places: Sequence[str] = (),
        *,
        max_batch: int = 64,
        max_wait_ms: float = 3.0,
        max_queue: int = 4096,
        max_languages: int = 16,
        workers: int | None = None,
        on_batch: Callable[[str, int, float], None] | None = None,
    ) -> None:
        self.model, self.on_batch, self.max_batch, self.max_queue = model.eval(), on_batch, max_batch, max_queue
        model.max_languages = max_languages
        self.languages = Languages(model, places)
        self.pictures = PictureEncoder(model) if "image" in model.modalities and model.processor is not None else None
        self.dim = model.embedding_dim
        self._batcher: Batcher[_Captions | _Pictures, Vectors] = Batcher(
            self._run,
            name="engine",
            size_of=lambda job: len(job.texts if isinstance(job, _Captions) else job.prepared),
            max_batch=max_batch,
            max_wait=max_wait_ms / 1000,
            max_queue=max_queue,
        )
        self._decoding = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), thread_name_prefix="engine-decode")
        self._fetching = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="engine-fetch")
        self._preparing, self._lock, self._closed = 0, Lock(), False

    @classmethod
    def load(
        cls,
        names: Sequence[str],
        device: str | None = None,
        *,
        max_batch: int = 64,
        max_wait_ms: float = 3.0,
        max_queue: int = 4096,
        max_languages: int = 16,
    ) -> Self:
        """Load a base, and know the languages of adapter repositories for it.

        Args:
            names: Bases or adapters: `tiny_clip`, folders or repositories, all for the same base.
            device: Where it shall run; default: the accelerator if there is one.
            max_batch: As of the class.
            max_wait_ms: As of the class.
            max_queue: As of the class.
            max_languages: As of the class.

        Returns:
            The engine.

        Raises:
            ConfigError: If nothing is named, or another than the first is a base.
            CCRError: If something cannot be loaded.
        """
        if not names:
            raise ConfigError("No model is named. `tiny_clip` needs no download.")
        first, *others = names
        alone = is_base(first, {})
        extra = next((name for name in others if is_base(name, {})), None)
        if extra is not None:
            raise ConfigError(f"'{extra}' is a base. Name one base, first, or only adapters.")
        model = CCRModel.from_pretrained(first, languages=[])
        model.to(device or default_device())  # type: ignore[arg-type]
        return cls(
            model,
            others if alone else names,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
            max_queue=max_queue,
            max_languages=max_languages,
        )

    # ------------------------------------------------------------------------------------------------------ asking

    @property
    def depth(self) -> int:
        """Captions and pictures that wait."""
        return self._batcher.depth + self._preparing

    def submit_text(
        self, captions: Sequence[str], language: str | Sequence[str | None] | None = None
    ) -> Future[Vectors]:
        """Have captions encoded.

        Args:
            captions: The captions.
            language: Of all of them, or one each; `None` is the only language there is.

        Returns:
            To be float32 of length one. (N, d)

        Raises:
            CaptionError: If there is none, or one is empty or no text.
            LanguageError: If a language is not known, or two do not share a space.
            BusyError: If too much is waiting.
        """
        texts = _texts(captions)
        codes = self.codes(len(texts), language)
        job, missing = _Captions(texts, codes), self.languages.missing(codes)
        if not missing:
            return self._batcher.submit(job)

        def fetched() -> _Captions:
            for code in missing:
                self.languages.fetch(code)
            return job

        return self._prepared(fetched, len(texts), self._fetching)

    def codes(self, count: int, language: str | Sequence[str | None] | None) -> list[str | None]:
        """The language of each caption; arguments and errors as of `submit_text`."""
        if language is None or isinstance(language, str):
            return [self.languages.resolve(language)] * count
        if len(language) != count:
            raise LanguageError(f"{len(language)} languages for {count} captions; give one, or one a caption.")
        codes = [self.languages.resolve(code) for code in language]
        spaces = {self.languages.space(code): code or "en" for code in codes}
        if len(spaces) > 1:
            raise LanguageError(
                f"These languages do not share a space ({', '.join(spaces.values())}): ask for one at a time."
            )
        return codes

    def submit_pictures(self, pictures: Sequence[Image.Image | Callable[[], Image.Image]]) -> Future[Vectors]:
        """Have pictures encoded.

        Args:
            pictures: Pictures, or functions that decode one, which then run in the engine's threads.

        Returns:
            To be float32 of length one (N, d), or an `ImageError` of the one that could not be decoded.

        Raises:
            ImageError: If there is none, or the base sees no pictures.
            BusyError: If too much is waiting.
        """
        encoder = self.pictures
        if encoder is None:
            raise ImageError("This model has no image tower, so it cannot encode pictures. It encodes captions.")
        if not pictures:
            raise ImageError("There is no picture. Give one or more.")

        def prepared() -> _Pictures:
            opened = (each() if callable(each) else each for each in pictures)  # one at a time: they are large
            try:
                return _Pictures([encoder.prepare(each) for each in opened])
            except CCRError:
                raise
            except (ValueError, OverflowError) as error:
                # image processors refuse pictures of extreme shapes
                raise ImageError(f"A picture has a shape that the model does not take ({error}).") from error

        return self._prepared(prepared, len(pictures), self._decoding)

    async def text(
        self,
        captions: Sequence[str],
        language: str | Sequence[str | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Vectors:
        """`submit_text`, awaited.

        Args:
            captions: As there.
            language: As there.
            timeout: Seconds, after which a `TimeoutError` is raised and what was not begun is dropped.

        Returns:
            As there.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self.submit_text(captions, language)), timeout)

    async def image(
        self, pictures: Sequence[Image.Image | Callable[[], Image.Image]], *, timeout: float | None = None
    ) -> Vectors:
        """`submit_pictures`, awaited.

        Args:
            pictures: As there.
            timeout: As of `text`.

        Returns:
            As there.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self.submit_pictures(pictures)), timeout)

    def close(self) -> None:
        """Take no more, finish what was taken, and end all threads."""
        with self._lock:
            self._closed = True
        for pool in (self._decoding, self._fetching):
            pool.shutdown()  # what is prepared there still gets into the queue
        self._batcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- behind it

    def _prepared(
        self, prepare: Callable[[], _Captions | _Pictures], count: int, pool: ThreadPoolExecutor
    ) -> Future[Vectors]:
        """Queue a job that needs work in another thread first."""
        answer: Future[Vectors] = Future()

        def queue() -> None:
            if not answer.cancelled():
                self._batcher.submit(prepare(), answer)

        def done(first: Future[None]) -> None:
            with self._lock:
                self._preparing -= count
            error = first.exception()
            if error is not None and answer.set_running_or_notify_cancel():
                answer.set_exception(error)

        with self._lock:
            if self._closed:
                raise BusyError("The server is shutting down. Ask another one, or later.")
            if self._preparing and self.depth + count > self.max_queue:
                raise BusyError(
                    f"{self.depth} are waiting already, of {self.max_queue} that may. Ask again in a moment."
                )
            self._preparing += count
            first = pool.submit(queue)  # under the lock: `close` then finds it in the pool
        first.add_done_callback(done)
        return answer

    def _run(self, jobs: list[_Captions | _Pictures]) -> list[Vectors | BaseException]:
        """Answer a batch, on the thread that owns the model."""
        answers: dict[int, Vectors | BaseException] = {}
        captions = {at: job for at, job in enumerate(jobs) if isinstance(job, _Captions)}
        pictures = {at: job for at, job in enumerate(jobs) if isinstance(job, _Pictures)}
        if captions:
            answers.update(zip(captions, self._encode_text(list(captions.values())), strict=True))
        if pictures:
            answers.update(zip(pictures, self._encode_pictures(list(pictures.values())), strict=True))
        return [answers[at] for at in range(len(jobs))]

    def _encode_text(self, jobs: list[_Captions]) -> list[Vectors | BaseException]:
        rows = [
            (at, row, text, code)
            for at, job in enumerate(jobs)
            for row, (text, code) in enumerate(zip(job.texts, job.codes, strict=True))
        ]
        answers: list[Vectors | BaseException] = [np.empty((0, 0), np.float32)] * len(jobs)
        for codes in self._passes(dict.fromkeys(code for *_, code in rows)):
            failed = self.languages.ensure(codes)
            mine = [each for each in rows if each[3] in codes]
            good = [each for each in mine if each[3] not in failed]
            for at, _, _, code in mine:
                if code in failed:
                    answers[at] = failed[code]
            if not good:
                continue
            started = time.perf_counter()
            texts, spoken = [text for _, _, text, _ in good], [code for *_, code in good]
            vectors = self.model.encode_text(texts, spoken, batch_size=self.max_batch, show_progress=False)
            found: Vectors = vectors.float().cpu().numpy()  # (n, d)
            self._tell("text", len(good), started)
            for vector, (at, row, _, _) in zip(found, good, strict=True):
                answer = answers[at]
                if isinstance(answer, BaseException):
                    continue
                if not answer.size:
                    answer = answers[at] = np.empty((len(jobs[at].texts), found.shape[1]), np.float32)
                answer[row] = vector
        return answers

    def _passes(self, codes: Sequence[str | None] | dict[str | None, None]) -> list[list[str | None]]:
        """Languages that can be encoded together: of one space, and no more than may be in memory."""
        spaces: dict[str | None, list[str | None]] = {}
        for code in codes:
            spaces.setdefault(self.languages.space(code), []).append(code)
        most = self.model.max_languages or len(codes)
        return [own[start : start + most] for own in spaces.values() for start in range(0, len(own), most)]

    def _encode_pictures(self, jobs: list[_Pictures]) -> list[Vectors | BaseException]:
        encoder = self.pictures
        if encoder is None:
            raise ImageError("This model has no image tower.")
        everything = [each for job in jobs for each in job.prepared]
        found = []
        for start in range(0, len(everything), self.max_batch):
            began, part = time.perf_counter(), everything[start : start + self.max_batch]
            found.append(encoder.encode(part))
            self._tell("image", len(part), began)
        ends = np.cumsum([len(job.prepared) for job in jobs])[:-1]
        return list(np.split(np.concatenate(found), ends))

    def _tell(self, kind: str, count: int, started: float) -> None:
        if self.on_batch is not None:
            self.on_batch(kind, count, time.perf_counter() - started)


def _texts(captions: Sequence[str]) -> list[str]:
    """Captions that a tokenizer takes, refused before they share a batch with others."""
    texts = check_captions(captions)
    if not texts:
        raise CaptionError("There is no caption. Give one or more.")
    return texts
