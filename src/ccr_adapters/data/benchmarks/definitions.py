"""The benchmarks of cross-lingual retrieval by name, as data: sizes, files, Hub copies with revisions, licences, traps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ccr_adapters.data.benchmarks.languages import codes_of
from ccr_adapters.data.benchmarks.schema import Benchmark, HubCopy, KnownOverlap
from ccr_adapters.errors import DataError, LanguageError

FLICKR = "Flickr30K pictures, on request, under Flickr's terms: https://forms.illinois.edu/sec/229675"
COCO = "train2014 and val2014 of https://cocodataset.org, under Flickr's terms"
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
BOTH_WAYS = "a hit is any caption of the image, or its image"


def _same(languages: tuple[str, ...], value: int) -> Mapping[str, int]:
    return MappingProxyType(dict.fromkeys(languages, value))


def _files(languages: tuple[str, ...], *patterns: str) -> Mapping[str, tuple[str, ...]]:
    """One file name for each pattern and language, `{language}` filled in."""
    return MappingProxyType(
        {language: tuple(pattern.replace("{language}", language) for pattern in patterns) for language in languages}
    )


_TASK1_2016 = Benchmark(
    name="multi30k-task1-2016",
    title="Multi30K task 1 (translations), test 2016",
    reader="aligned",
    languages=("en", "de", "fr", "cs"),
    images=1000,
    captions=_same(("en", "de", "fr", "cs"), 1000),
    caption_files=_files(("en", "de", "fr", "cs"), "data/task1/raw/test_2016_flickr.{language}.gz"),
    image_files=("data/task1/image_splits/test_2016_flickr.txt",),
    nrccr_files=("multi30ktest_{language}_2016.caption.txt",),
    captions_per_image=1,
    licence="no licence file; research use, as its README asks",
    images_from=FLICKR,
    homepage="https://github.com/multi30k/dataset",
    protocol=f"Multi30K task 1, test 2016: one translated caption an image, both ways; {BOTH_WAYS}",
    notes=(
        "The Hub copy has no column of image ids: rows are numbered, and its test split is the one of 2016.",
        "Its pictures are the Flickr half of xFlickr&CO, in the same order.",
    ),
    hub=HubCopy("romrawinjp/multi30k", "110e827dac7d6aabe6201d13bbdbc7413630390d", captions="{language}"),
)
_TASK1_2017 = replace(
    _TASK1_2016,
    name="multi30k-task1-2017",
    title="Multi30K task 1 (translations), test 2017",
    languages=("en", "de", "fr"),
    captions=_same(("en", "de", "fr"), 1000),
    caption_files=_files(("en", "de", "fr"), "data/task1/raw/test_2017_flickr.{language}.gz"),
    image_files=("data/task1/image_splits/test_2017_flickr.txt",),
    nrccr_files=(),
    images_from="https://sid.erda.dk/cgi-sid/ls.py?share_id=FxXi7Zkbvt, under Flickr's terms",
    protocol=f"Multi30K task 1, test 2017 (Flickr): one translated caption an image, both ways; {BOTH_WAYS}",
    notes=("There are no Czech captions of 2017, and no Hub copy of its pictures: they are a separate download.",),
    hub=None,
)
_TASK2_2016 = replace(
    _TASK1_2016,
    name="multi30k-task2-2016",
    title="Multi30K task 2 (independent descriptions), test 2016",
    captions=MappingProxyType({"en": 5000, "de": 5000, "fr": 1000, "cs": 1000}),
    caption_files=MappingProxyType(
        {
            **_files(("en", "de"), *(f"data/task2/raw/test_2016.{k}.{{language}}.gz" for k in range(1, 6))),
            **_files(("fr", "cs"), "data/task1/raw/test_2016_flickr.{language}.gz"),
        }
    ),
    image_files=("data/task2/image_splits/test_2016_images.txt", "data/task1/image_splits/test_2016_flickr.txt"),
    nrccr_files=(),
    captions_per_image=None,
    protocol=f"Multi30K task 2, test 2016: five independent captions an image in en and de, one in fr and cs; {BOTH_WAYS}",
    notes=("French and Czech have one caption an image, the translations of task 1: do not compare them with German.",),
    hub=None,
)
_FLICKR30K = Benchmark(
    name="flickr30k",
    title="Flickr30K, Karpathy's test split",
    reader="karpathy",
    languages=("en", "zh"),
    images=1000,
    captions=_same(("en", "zh"), 5000),
    caption_files=MappingProxyType(
        {"en": ("dataset_flickr30k.json", "flickr30k_test_karpathy.txt"), "zh": ("flickr30k_test_zh.txt",)}
    ),
    licence="research use",
    images_from=FLICKR,
    homepage=f"{KARPATHY} (zh: https://github.com/mehdidc/retrieval_annotations/releases)",
    protocol=f"Flickr30K, Karpathy's 1,000 test images with five captions each, both ways; {BOTH_WAYS}",
    notes=(
        "The Hub copy has no column of image ids: rows are numbered. No source gave a revision to pin: scores name the commit.",
        "lmms-lab/flickr30k has all 31,783 images in one split without a column that names the test images.",
    ),
    hub=HubCopy("royokong/flickr30k_test", None, captions="text", languages=("en",), parquet=False),
)
_COCO5K = Benchmark(
    name="mscoco-5k",
    title="MS COCO, Karpathy's test split",
    reader="karpathy",
    languages=("en",),
    images=5000,
    captions=_same(("en",), 25000),
    caption_files=MappingProxyType({"en": ("dataset_coco.json", "coco_test_karpathy.json")}),
    captions_per_image=5,
    licence="CC BY 4.0",
    images_from=COCO,
    homepage=KARPATHY,
    protocol=f"COCO, Karpathy's 5,000 test images with the first five captions each, both ways; {BOTH_WAYS}",
    notes=(
        "A few images have six or seven captions (25,010 in all): the first five count.",
        "The Hub copy has no pictures. No source gave a revision to pin: scores name the commit.",
    ),
    hub=HubCopy(
        "yerevann/coco-karpathy", None, captions="sentences", image=None, image_id="cocoid", image_file="filename"
    ),
)
_COCO1K = replace(
    _COCO5K,
    name="mscoco-1k",
    title="MS COCO, 1,000 of Karpathy's test images",
    images=1000,
    captions=_same(("en",), 5000),
    first_images=1000,
    protocol=f"COCO, the first 1,000 of Karpathy's test images with five captions each, both ways; {BOTH_WAYS}",
    notes=(
        *_COCO5K.notes,
        "Papers differ: the first 1,000 images in file order (here), or the mean over five folds of the 5,000.",
    ),
)
_COCO_CN = Benchmark(
    name="coco-cn",
    title="COCO-CN",
    reader="coco_cn",
    languages=("zh",),
    images=1000,
    captions=MappingProxyType({}),
    caption_files=MappingProxyType({"zh": ("imageid.human-written-caption.txt",)}),
    image_files=("coco-cn_test.txt",),
    licence="MIT",
    images_from=COCO,
    homepage="https://github.com/li-xirong/coco-cn (coco-cn-version1805v1.1.tar.gz of AIMClab-RUC/COCO-CN on the Hub)",
    protocol=f"COCO-CN test: 1,000 images with the captions that people wrote in Chinese, both ways; {BOTH_WAYS}",
    notes=(
        "The 5,000 human translations of the test images are another file and are not counted.",
        "Sources count 1,033 or 1,053 written captions of the test images, so no number is expected here.",
        "The Hub copy holds the official files in a tar. No source gave a revision to pin: scores name the commit.",
    ),
    hub=HubCopy("AIMClab-RUC/COCO-CN", None, image=None, archive="coco-cn-version1805v1.1.tar.gz"),
    overlaps=(
        KnownOverlap("COCO train2014", 583, "train on the images outside of the test list (mscoco2014dev: 121,286)"),
        KnownOverlap("COCO val2014", 417, "Karpathy's restval and test hold images of val2014"),
    ),
)
_STAIR5K = Benchmark(
    name="stair-5k",
    title="STAIR Captions on Karpathy's test split",
    reader="stair",
    languages=("ja",),
    images=5000,
    captions=_same(("ja",), 25000),
    caption_files=MappingProxyType({"ja": ("stair_captions_v1.2_val.json",)}),
    image_files=("dataset_coco.json",),
    captions_per_image=5,
    licence="CC BY 4.0",
    images_from=COCO,
    homepage=f"https://github.com/STAIR-Lab-CIT/STAIR-captions (stair_captions_v1.2.tar.gz; and {KARPATHY})",
    protocol=f"STAIR captions of Karpathy's 5,000 COCO test images, five each, both ways; {BOTH_WAYS}",
    notes=(
        "STAIR has no test split of its own: its validation captions are joined with Karpathy's test images by id.",
        "shunk031/STAIR-Captions on the Hub has the captions, and no list of the test images: use the official files.",
    ),
)
_STAIR1K = replace(
    _STAIR5K,
    name="stair-1k",
    title="STAIR Captions on 1,000 of Karpathy's test images",
    images=1000,
    captions=_same(("ja",), 5000),
    image_files=("FeatureData/ja_test_id.txt", "dataset_coco.json"),
    first_images=1000,
    protocol=f"STAIR captions of 1,000 of Karpathy's COCO test images (those of ja_test_id.txt, or the first), five each, "
    f"both ways; {BOTH_WAYS}",
    notes=(
        *_STAIR5K.notes,
        "The NRCCR authors' thousand is in their ja_test_id.txt and comes before the first thousand in file order.",
    ),
)
_XTD_LANGUAGES = ("en", "es", "it", "ko", "pl", "ru", "tr", "zh")
_XTD10 = Benchmark(
    name="xtd10",
    title="XTD10",
    reader="aligned",
    languages=("de", "en", "es", "fr", "it", "ja", "ko", "pl", "ru", "tr", "zh"),
    images=1000,
    captions=_same(("de", "en", "es", "fr", "it", "ja", "ko", "pl", "ru", "tr", "zh"), 1000),
    caption_files=MappingProxyType(
        {
            **_files(_XTD_LANGUAGES, "XTD10/test_1kcaptions_{language}.txt"),
            **_files(("de", "fr"), "MIC/test_1kcaptions_{language}.txt"),
            "ja": ("STAIR/test_1kcaptions_jp.txt",),
        }
    ),
    image_files=("XTD10/test_image_names.txt",),
    captions_per_image=1,
    licence="Adobe Research licence, non-commercial research only",
    images_from=COCO,
    homepage="https://github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10",
    protocol=f"XTD10: 1,000 COCO images with one caption each, both ways; {BOTH_WAYS}",
    notes=(
        "Files of seven languages have Windows line ends and no last one; Japanese is `jp` in the file names.",
        "Some captions occur twice (995 different ones in Russian, 997 in German): each still has one right image.",
        "Haon-Chen/XTD-10 on the Hub has another shape and a wrong licence label: use the official files.",
    ),
    overlaps=(
        KnownOverlap("COCO train2014", 800, "a model trained on train2014 has seen these images: not zero-shot"),
        KnownOverlap("COCO val2014", 200, "Karpathy's restval and test hold images of val2014"),
    ),
)
# queries as MTEB's statistics of mteb/xm3600 count them
_XM_CAPTIONS = {
    "ar": 7367, "bn": 3600, "cs": 7207, "da": 7264, "de": 8643, "el": 7204, "en": 7200, "es": 8614, "fa": 7245,
    "fi": 7127, "fil": 7109, "fr": 8562, "he": 7200, "hi": 8503, "hr": 7280, "hu": 7216, "id": 7126, "it": 8471,
    "ja": 7185, "ko": 7650, "mi": 4732, "nl": 8059, "no": 7213, "pl": 7141, "pt": 7243, "quz": 7200, "ro": 7123,
    "ru": 7200, "sv": 7273, "sw": 7046, "te": 7200, "th": 7200, "tr": 7233, "uk": 7215, "vi": 7350, "zh": 7174,
}  # fmt: skip
_XM_ALL = Benchmark(
    name="xm3600@all",
    title="Crossmodal-3600, all captions",
    reader="xm3600",
    languages=tuple(_XM_CAPTIONS),
    images=3600,
    captions=MappingProxyType(_XM_CAPTIONS),
    caption_files=_files(tuple(_XM_CAPTIONS), "captions.jsonl"),
    licence="CC BY 4.0",
    images_from="https://open-images-dataset.s3.amazonaws.com/crossmodal-3600/images.tgz, CC BY 2.0",
    homepage="https://google.github.io/crossmodal-3600",
    protocol=f"Crossmodal-3600: 3,600 images, all captions are queries (as SigLIP and MTEB), both ways; {BOTH_WAYS}",
    notes=(
        "CLIP_benchmark and open_clip count the first caption alone: their numbers belong beside xm3600@first.",
        "The Hub copy repeats the 3,600 pictures in each of 36 splits; they are read from the first split asked for.",
        "Bengali has one caption an image, Maori 1.3.",
    ),
    hub=HubCopy("mteb/xm3600", "536cd45bbfe53de9b08c0483bb4a76a4bd3673fa", split="{language}", image_id="image_id"),
)
_XM_FIRST = replace(
    _XM_ALL,
    name="xm3600@first",
    title="Crossmodal-3600, first caption",
    captions=_same(tuple(_XM_CAPTIONS), 3600),
    captions_per_image=1,
    protocol=f"Crossmodal-3600: 3,600 images, the first caption of each (as CLIP_benchmark), both ways; {BOTH_WAYS}",
)
_XFLICKRCO = Benchmark(
    name="xflickrco",
    title="xFlickr&CO (IGLUE)",
    reader="iglue",
    languages=("de", "en", "es", "id", "ja", "ru", "tr", "zh"),
    images=2000,
    captions=_same(("de", "en", "es", "id", "ja", "ru", "tr", "zh"), 2000),
    caption_files=_files(
        ("de", "en", "es", "id", "ja", "ru", "tr", "zh"), "datasets/xFlickrCO/annotations/{language}/test.jsonl"
    ),
    captions_per_image=1,
    licence="CC BY-SA 4.0",
    images_from=f"1,000 of {FLICKR}; 1,000 of val2014 of https://cocodataset.org",
    homepage="https://github.com/e-bug/iglue",
    protocol=f"xFlickr&CO: 1,000 Flickr30K and 1,000 COCO images with one caption each, both ways; {BOTH_WAYS}",
    notes=(
        "German (line 1960) and Indonesian (line 901) have an empty caption: refused, or skipped and counted (on_error='skip').",
        "Ids are text for Flickr and numbers for COCO.",
    ),
    hub=HubCopy(
        "mteb/xflickrco",
        "4da629e05455d757306174cdc72f2edfe00b9027",
        captions="sentences",
        split="{language}",
        image_id="id",
    ),
    overlaps=(KnownOverlap("Multi30K test 2016, Flickr30K test", 1000, "the Flickr half is that very test set"),),
)
_WIT_SIZES = {
    "ar": (792, 890), "bg": (806, 860), "da": (814, 891), "el": (541, 570), "en": (685, 1000), "et": (780, 874),
    "id": (854, 901), "ja": (842, 1000), "ko": (889, 931), "tr": (681, 721), "vi": (869, 946),
}  # fmt: skip
_WIT = Benchmark(
    name="wit",
    title="WIT retrieval (IGLUE)",
    reader="iglue",
    languages=tuple(_WIT_SIZES),
    images=685,
    captions=MappingProxyType({language: captions for language, (_, captions) in _WIT_SIZES.items()}),
    images_by_language=MappingProxyType({language: images for language, (images, _) in _WIT_SIZES.items()}),
    caption_files=_files(tuple(_WIT_SIZES), "datasets/wit/annotations/test_{language}.jsonl"),
    licence="CC BY-SA",
    images_from="https://sid.erda.dk/sharelink/CwTySJlPdB; each picture has its own licence on Wikimedia Commons",
    homepage="https://github.com/e-bug/iglue",
    protocol=f"WIT (IGLUE): a gallery of its own for each language, all captions are queries, both ways; {BOTH_WAYS}",
    notes=(
        "One caption in Greek (line 430) and one in Indonesian (797) is a no-break space: refused, or skipped and counted.",
        "Galleries differ by language: numbers of two languages are not comparable.",
    ),
    hub=HubCopy("mteb/wit", "91ac153f1371a98b209ed763205e25e115ecd06e", split="{language}", image_id="image_id"),
)
_VATEX = Benchmark(
    name="vatex",
    title="VATEX",
    reader="vatex",
    languages=("en", "zh"),
    images=1500,
    captions=_same(("en", "zh"), 15000),
    caption_files=_files(("en", "zh"), "vatex_validation_v1.0.json"),
    image_files=("tst_names.npy", "test_ids.txt"),
    nrccr_files=("vatextest_{language}.caption.txt",),
    licence="CC BY 4.0",
    images_from="YouTube, many of them gone; I3D features on the homepage",
    homepage="https://eric-xw.github.io/vatex-website/download.html",
    protocol=f"VATEX: the 1,500 test videos split off the validation set, ten captions a language, both ways; {BOTH_WAYS}",
    notes=(
        "The public test file has no Chinese captions: retrieval papers split the validation set in two (tst_names.npy).",
        "Without that list all 3,000 validation videos are the gallery, and the facts say so.",
        "HuggingFaceM4/vatex needs a script, and the other copies on the Hub are English alone: use the official files.",
    ),
    visual="video",
)
_MSRVTT_CN = Benchmark(
    name="msrvtt-cn",
    title="MSR-VTT-CN",
    reader="nrccr",
    languages=("en", "zh"),
    images=2990,
    captions=_same(("en", "zh"), 59800),
    caption_files=MappingProxyType(
        {
            "en": ("TextData/msrvtt10kcntest_enc.caption.txt",),
            "zh": ("TextData/msrvtt10kcntest_zh.caption.txt",),
        }
    ),
    licence="not stated; ask the authors",
    images_from="MSR-VTT videos; features by the NRCCR authors",
    homepage="https://github.com/HuiGuanLab/nrccr (links in its README)",
    protocol=f"MSR-VTT-CN: the 2,990 test videos with twenty captions each, both ways; {BOTH_WAYS}",
    notes=("The Chinese captions of the training videos are machine translations.", "There is no copy on the Hub."),
    visual="video",
)

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        item.name: item
        for item in (
            _TASK1_2016, _TASK1_2017, _TASK2_2016, _FLICKR30K, _COCO1K, _COCO5K, _COCO_CN, _STAIR1K, _STAIR5K, _XTD10,
            _XM_FIRST, _XM_ALL, _XFLICKRCO, _WIT, _VATEX, _MSRVTT_CN,
        )
    }
)  # fmt: skip
# what people may write without saying which
SHORT_NAMES: Mapping[str, str] = MappingProxyType({"xm3600": "xm3600@all"})


def find_benchmark(name: str) -> Benchmark:
    """The definition of a benchmark.

    Args:
        name: Its name, in any case; `xm3600` is `xm3600@all`.

    Raises:
        DataError: If there is none of that name; the message lists those there are.
    """
    key = name.strip().lower()
    found = BENCHMARKS.get(SHORT_NAMES.get(key, key))
    if found is None:
        alike = [other for other in BENCHMARKS if key and (other.startswith(key) or key in other)]
        hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
        raise DataError(f"There is no benchmark '{name}'.{hint} There are {', '.join(BENCHMARKS)}.")
    return found


def check_language(definition: Benchmark, language: str) -> str:
    """The code of a language as the benchmark is looked up by.

    Raises:
        LanguageError: If the benchmark does not have it; the message lists what it has.
    """
    codes = codes_of(definition.languages, language)
    if not codes:
        raise LanguageError(
            f"{definition.name} has no captions in '{language}'; it has {', '.join(definition.languages)}."
        )
    return codes[0]
