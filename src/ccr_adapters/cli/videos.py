"""Video files of a corpus, made features of their frames once; what comes after sees no file."""

from __future__ import annotations

from dataclasses import replace

from accelerate import PartialState

from ccr_adapters.data.corpus import Corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding_video import frames_asked
from ccr_adapters.processing.video import is_features
from ccr_adapters.training import TargetCache


def with_frames(corpus: Corpus, model: CCRModel, cache: TargetCache, language: str) -> Corpus:
    """Encode the frames of all videos that come as files, or take them from the cache.

    Args:
        corpus: The data.
        model: The model, whose image tower stays as it is.
        cache: Where the vectors are kept.
        language: Whose head says how many frames it looks at.

    Returns:
        The corpus with features of frames; the same one if it has no video files.

    Raises:
        VideoError: Naming a video that cannot be read.
    """
    frames = frames_asked(model, language)

    def seen(questions: RetrievalSet) -> RetrievalSet:
        videos = questions.videos
        if videos is None or is_features(videos[0]):
            return questions
        return replace(questions, videos=cache.frames(videos, frames))

    with PartialState().main_process_first():
        found = replace(
            corpus,
            validation=seen(corpus.validation),
            test={name: seen(questions) for name, questions in corpus.test.items()},
        )
        if corpus.videos is None or is_features(corpus.videos[0]):
            return found
        return replace(found, videos=cache.frames(corpus.videos, frames))
