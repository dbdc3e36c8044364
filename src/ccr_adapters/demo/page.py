"""The web page: pictures for words, the same words read in several ways, captions for a picture, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ccr_adapters.demo.answers import Answers
from ccr_adapters.demo.captions import Caption
from ccr_adapters.demo.detect import Detector
from ccr_adapters.demo.finder import AUTO, Finder, Pictures
from ccr_adapters.demo.look import CSS, theme
from ccr_adapters.demo.names import SOURCE, name_of
from ccr_adapters.extras import require
from ccr_adapters.modeling import CCRModel

_MANY = (6, 12, 24, 48)  # pictures of one answer
_UPLOAD = "25mb"
# seconds: files that were uploaded are deleted after an hour
_KEEP = 3600
_LETTERS = 1000  # of a question

_SIDE = "The same question read by the base as it is, by the adapter, and in another language."
_WHY = (
    "A dynamic adapter reads a caption in two ways, *what* it says and *how* it is said, and makes its own weights from "
    "both. Here are the captions that are nearest to the question either way, and where its weights lie among theirs."
)
_PICTURE = "Which of the captions fit a picture? The picture is encoded by the base; no adapter touches it."


def build_page(
    model: CCRModel,
    pictures: Pictures,
    captions: Sequence[Caption] = (),
    *,
    questions: Mapping[str, Sequence[str]] | None = None,
    detect: Detector | None = None,
    title: str | None = None,
    about: str = "",
    k: int = 12,
) -> Any:
    """Build the page.

    Args:
        model: The model with its languages.
        pictures: What is searched: a [`ccr_adapters.search.Collection`], indexed by the same base.
        captions: Captions to find for pictures and to explain questions by; without any, two tabs say so.
        questions: Questions to click, by language.
        detect: Says which language a question is in; default: by the tokenizers.
        title: First line.
        about: Second line.
        k: Pictures of an answer, at first.

    Returns:
        `gradio.Blocks`, for [`launch`].

    Raises:
        MissingExtraError: If there is no Gradio.
        LanguageError: If a language has a space of its own.

    Example:
        >>> page = build_page(model, Collection.open("photos.index"))  # doctest: +SKIP
        >>> launch(page)  # doctest: +SKIP
    """
    gr: Any = require("gradio", extra="demo")
    finder = Finder(model, pictures, captions, detect=detect)
    names = ", ".join(name_of(code) for code in finder.languages)
    title = title or "Search pictures in your own words"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(_KEEP, _KEEP)) as page:
        gr.Markdown(f"# {title}\n\n{about or f'Languages: {names}'}", elem_classes="ccr-head")
        layout = _Layout(gr, finder, questions or {}, k)
        with gr.Tabs(elem_id="tabs"):
            layout.search()
            layout.side_by_side()
            layout.why()
            layout.captions()
        layout.share_questions()
    return page


def launch(page: Any, **options: Any) -> Any:
    """Serve a page as it should look, without telemetry.

    Args:
        page: What `build_page` gives.
        options: Of `gradio.Blocks.launch`, over the defaults here.

    Returns:
        What `gradio.Blocks.launch` returns.
    """
    defaults = {
        "theme": theme(),
        "css": CSS,
        "footer_links": [],
        "max_file_size": _UPLOAD,
        "ssr_mode": False,
        "enable_monitoring": False,
        "share": False,
    }
    return page.launch(**{**defaults, **options})


class _Layout:
    """The tabs, one method each, and the question that they share."""

    def __init__(self, gr: Any, finder: Finder, questions: Mapping[str, Sequence[str]], k: int) -> None:
        self._gr, self._finder, self._questions, self._k = gr, finder, questions, k
        self._answers = Answers(finder)
        # components of a question by tab, and what answers it
        self._rows: list[tuple[Any, Any]] = []
        self._asked: list[Any] = []
        # outside of the tabs, whose bar would show one of them twice with a state inside
        self._written_for = gr.State("")

    def search(self) -> None:
        """Words to pictures."""
        gr = self._gr
        # all there from the start: what one tab puts into another would be lost in one that was never opened
        with gr.Tab("Search", id="search", render_children=True):
            query, language, button, k = self._question("search", k=True)
            examples: list[tuple[Any, str]] = []
            for code, texts in self._questions.items():
                with gr.Row(elem_classes="ccr-examples"):
                    gr.Markdown(name_of(code))
                    examples += [(gr.Button(text, size="sm", variant="secondary"), text) for text in texts]
            said, found = gr.HTML(elem_id="search-said"), gr.HTML(elem_id="search-found")
        inputs, outputs = [query, language, k], [said, found]
        self._on(button, query, self._answers.search, inputs, outputs, "search")
        for chosen in (language, k):
            chosen.input(_if_asked(self._answers.search, 2), inputs, outputs, **_QUIET)
        for example, text in examples:
            asked = example.click(partial(self._example, text), [k], [query, language, *outputs], **_QUIET)
            self._asked.append((asked, query, language))

    def _example(self, text: str, k: int) -> tuple[str, str, str, str]:
        return (text, AUTO, *self._answers.search(text, AUTO, k))

    def side_by_side(self) -> None:
        """One question, several readers."""
        gr = self._gr
        with gr.Tab("Side by side", id="side", render_children=True) as tab:
            gr.Markdown(_SIDE)
            query, language, button, _ = self._question("side")
            with gr.Row(elem_classes="ccr-row"):
                choices = [("none", ""), *self._choices()]
                # the second adapter, if there is one: English, the last, is what 'no adapter' shows already
                first = self._finder.languages[1] if len(self._finder.languages) > 2 else ""
                other = gr.Dropdown(choices, value=first, label="Another language", scale=1, min_width=180)
                words = gr.Textbox(
                    label="The question in that language",
                    placeholder="empty: its adapter reads the same words",
                    lines=1,
                    max_lines=1,
                    scale=3,
                    min_width=240,
                )
            said, found = gr.HTML(elem_id="side-said"), gr.HTML(elem_id="side-found")
        inputs, outputs = [query, language, other, words], [said, found]
        self._on(button, query, self._answers.side_by_side, inputs, outputs, "side_by_side")
        words.submit(self._answers.side_by_side, inputs, outputs, **_QUIET)
        again = _if_asked(self._answers.side_by_side, 2)
        language.input(again, inputs, outputs, **_QUIET)
        words.input(str, query, self._written_for, **_QUIET)
        for event in (other.input, tab.select):
            filled = event(self._words, [query, other, words, self._written_for], words, **_QUIET)
            filled.then(again, inputs, outputs, **_QUIET)

    def _words(self, text: str, other: str, words: str, written_for: str) -> str:
        """The question in the other language: what the user has written for it, or that of an example."""
        examples = self._questions.values()
        if words and text == written_for and not any(words in texts for texts in examples):
            return words
        place = next((texts.index(text) for texts in examples if text in texts), None)
        return self._questions[other][place] if place is not None and other in self._questions else ""

    def why(self) -> None:
        """What the adapter reads off a question."""
        gr = self._gr
        with gr.Tab("Why", id="why", render_children=True) as tab:
            gr.Markdown(_WHY)
            query, language, button, _ = self._question("why")
            said, tables = gr.HTML(elem_id="why-said"), gr.HTML(elem_id="why-tables")
            dynamic = [code for code in self._finder.model.languages if self._finder.model.disentangles(code)]
            ways = [("style", "style"), ("length", "length")] + ([("language", "language")] if len(dynamic) > 1 else [])
            by = gr.Radio(ways, value="style", label="Colours of the map", elem_id="why-by")
            drawn = gr.HTML(elem_id="why-map")
        inputs, outputs = [query, language, by], [said, tables, drawn]
        self._on(button, query, self._answers.why, inputs, outputs, "why")
        by.input(_if_asked(self._answers.weight_map, 1), inputs, drawn, **_QUIET)
        again = _if_asked(self._answers.why, 3)
        for event in (language.input, tab.select):
            event(again, inputs, outputs, **_QUIET)

    def captions(self) -> None:
        """A picture to words."""
        gr = self._gr
        there = [(name_of(code), code) for code in self._finder.languages if code in self._finder.captions]
        with gr.Tab("Captions", id="captions", render_children=True):
            if not there:
                gr.Markdown(
                    "No captions in a language that the model reads were given: start the page with a CSV file of captions."
                )
                return
            gr.Markdown(_PICTURE)
            with gr.Row():
                with gr.Column(scale=1, min_width=260):
                    # not gr.Image, which opens a picture before anybody can say what is wrong with it
                    picture = gr.File(file_types=["image"], label="Picture", height=140, elem_id="captions-picture")
                    language = gr.Dropdown(there, value=there[0][1], label="Language of the captions")
                    k = gr.Dropdown([5, 10, 20, 50], value=10, label="Captions")
                with gr.Column(scale=2, min_width=300):
                    said, found = gr.HTML(elem_id="captions-said"), gr.HTML(elem_id="captions-found")
        inputs = [picture, language, k]
        for number, event in enumerate((picture.change, language.input, k.input)):
            name = "captions" if number == 0 else False
            event(self._answers.captions, inputs, [said, found], **{**_QUIET, "api_name": name})

    def share_questions(self) -> None:
        """Bring a question that was asked on one tab to the others."""
        # in the browser: who opens another tab at once would find the question before
        copies = f"(text, code) => Array({len(self._rows) - 1}).fill([text, code]).flat()"
        for asked, query, language in self._asked:
            others = [part for row in self._rows if row[0] is not query for part in row]
            asked.then(None, [query, language], others, js=copies, **_QUIET)

    def _question(self, name: str, *, k: bool = False) -> tuple[Any, Any, Any, Any]:
        gr, many = self._gr, None
        with gr.Row(elem_classes="ccr-row"):
            query = gr.Textbox(
                label="Question",
                lines=1,
                max_lines=1,
                max_length=_LETTERS,
                scale=4,
                min_width=240,
                elem_id=f"{name}-query",
            )
            choices = [("Detect it", AUTO), *self._choices()]
            language = gr.Dropdown(
                choices, value=AUTO, label="Language", scale=1, min_width=150, elem_id=f"{name}-language"
            )
            if k:
                many = gr.Dropdown(sorted({*_MANY, self._k}), value=self._k, label="Pictures", scale=0, min_width=110)
            button = gr.Button("Search" if name != "why" else "Explain", variant="primary", scale=0, min_width=110)
        self._rows.append((query, language))
        return query, language, button, many

    def _choices(self) -> list[tuple[str, str]]:
        codes = self._finder.languages
        return [(f"{name_of(code)}, no adapter" if code == SOURCE else name_of(code), code) for code in codes]

    def _on(self, button: Any, query: Any, answer: Callable[..., Any], inputs: Any, outputs: Any, name: str) -> None:
        asked = self._gr.on([button.click, query.submit], answer, inputs, outputs, **{**_QUIET, "api_name": name})
        self._asked.append((asked, query, inputs[1]))


_QUIET: dict[str, Any] = {"api_name": False, "show_progress": "minimal"}


def _if_asked(answer: Callable[..., Any], outputs: int) -> Callable[..., Any]:
    """An answer to a change of something beside the question: nothing, as long as there is no question."""

    def handler(text: str, *others: Any) -> Any:
        if text.strip():
            return answer(text, *others)
        return "" if outputs == 1 else ("",) * outputs

    return handler
