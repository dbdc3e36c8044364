"""Videos in, normalised vectors out: whatever they come as, in order, by mean, by a language's head, or by X-CLIP itself."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, XCLIPConfig, XCLIPModel, XCLIPTextConfig, XCLIPVisionConfig
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data import tiny_clip_path
from ccr_adapters.data.tiny_world import MovingScene, Thing, render_clip, write_video
from ccr_adapters.data.tiny_world.motion import motion_message
from ccr_adapters.data.tiny_world.motion_captions import motion_caption
from ccr_adapters.errors import ConfigError, ImageError, VideoError
from ccr_adapters.full import FullConfig
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding_video import frame_vectors
from ccr_adapters.objectives import info_nce
from ccr_adapters.processing import CCRProcessor
from ccr_adapters.processing.collator import TargetCollator
from ccr_adapters.processing.frames import mean_frames
from ccr_adapters.processing.video import sample_frames

NEAR = {"rtol": 0.0, "atol": 1e-5}
SHAPES = ("star", "fish", "house")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three files of different lengths."""
    folder = tmp_path_factory.mktemp("clips")
    for shape, frames in zip(SHAPES, (5, 16, 40), strict=True):
        scene = MovingScene(Thing(shape, "red"), "left", background="grass", jitter=frames)
        write_video(folder / f"{shape}.mp4", render_clip(scene, size=32, frames=frames))
    return [folder / f"{shape}.mp4" for shape in SHAPES]


@pytest.fixture
def model(bases):
    """`de` has a head that attends to frames, `fr` one for pictures, `cs` none."""
    torch.manual_seed(2)
    model = CCRModel.from_base(bases["clip"])
    sizes = {"space": 20, "width": 16, "attention_heads": 2}
    model.add_language("de", DASDConfig(r=4), head=HeadConfig(**sizes, frames=6))
    model.add_language("fr", DASDConfig(r=4), head=HeadConfig(**sizes))
    model.add_language("cs", DASDConfig(r=4))
    with torch.no_grad():
        model.heads["de"].visual.layer.positions.normal_()
    return model.eval()


def by_hand(model, video, count):
    """Vectors of a clip's frames, one picture a pass. (T, d)"""
    return torch.cat([model.encode_image(picture, None) for picture in sample_frames(video, count)])


@pytest.mark.parametrize("size", [1, 3, 7, 32])
def test_without_a_head_a_video_is_the_mean_of_its_frames(size, model, clips):
    expected = torch.stack([F.normalize(by_hand(model, clip, 8).mean(0), dim=0) for clip in clips])
    for code in (None, "cs", "en"):
        found = model.encode_video(clips, code, batch_size=size)
        torch.testing.assert_close(found, expected, **NEAR)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(model.encode_video(clips[1], None), expected[1:2], **NEAR)
    torch.testing.assert_close(model.encode_video(clips[::-1], None), expected.flip(0), **NEAR)
    assert (model.encode_video(clips, None, frames=3) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("size", [1, 5, 32])
def test_a_head_pools_frames_in_their_order(size, model, clips):
    frames = torch.stack([by_hand(model, clip, 6) for clip in clips])
    with torch.no_grad():
        expected = model.heads["de"].visual(frames)
    found = model.encode_video(clips, "de", batch_size=size)  # as many as the head has places for
    torch.testing.assert_close(found, expected, **NEAR)
    torch.testing.assert_close(model.encode_video(clips, "de", frames=50), expected, **NEAR)
    model.set_language("de")
    torch.testing.assert_close(model.encode_video(clips), expected, **NEAR)
    backwards = [sample_frames(clip, 6)[::-1] for clip in clips]
    assert (model.encode_video(backwards, "de") - expected).abs().max() > 2e-4
    torch.testing.assert_close(model.encode_video(backwards, "cs"), model.encode_video(clips, "cs", frames=6), **NEAR)


def test_a_head_of_pictures_maps_the_mean(model, clips):
    expected = model.map_visual(model.encode_video(clips, None), "fr")
    torch.testing.assert_close(model.encode_video(clips, "fr"), expected, **NEAR)


@pytest.mark.parametrize("frames", [0, 6])
def test_a_head_may_read_vectors_at_their_own_length(frames, model, clips):
    head = HeadConfig(space=20, width=16, attention_heads=2, frames=frames, normalize_visual=False)
    model.add_language("sw", DASDConfig(r=4), head=head)
    model.eval()
    expected = []
    for clip in clips:
        inputs = model.processor.picture_inputs(sample_frames(clip, frames or 8))
        with torch.no_grad():
            vectors = model.base.get_image_features(**inputs).pooler_output
            expected.append(model.heads["sw"].visual(vectors[None] if frames else vectors.mean(0, keepdim=True)))
    torch.testing.assert_close(model.encode_video(clips, "sw"), torch.cat(expected), **NEAR)


@pytest.mark.parametrize("code", [None, "de", "fr"])
def test_a_video_may_come_as_anything(code, model, clips):
    expected = model.encode_video(clips, code, frames=4)
    pictures = [sample_frames(clip, 4) for clip in clips]
    arrays = [np.stack([np.asarray(picture) for picture in own]) for own in pictures]
    features = model.encode_frames(clips, frames=4)
    assert [own.shape for own in features] == [(4, model.embedding_dim)] * 3
    kinds = (
        pictures,
        arrays,
        np.stack(arrays),
        features,
        torch.from_numpy(np.stack(features)),
        [str(clips[0]), arrays[1], features[2]],
        [features[0], clips[1], pictures[2]],
        [2 * features[0], *pictures[1:]],  # of any length
        iter(clips),
    )
    for videos in kinds:
        torch.testing.assert_close(model.encode_video(videos, code, frames=4, batch_size=3), expected, **NEAR)


def test_features_of_any_number_of_frames(model):
    draw = np.random.default_rng(0)
    videos = [draw.normal(size=(length, model.embedding_dim)).astype("float32") for length in (1, 3, 6, 33)]
    expected = F.normalize(torch.from_numpy(mean_frames(videos)), dim=-1)
    torch.testing.assert_close(model.encode_video(videos, None), expected, **NEAR)
    for row, video in enumerate(videos):
        torch.testing.assert_close(model.encode_video([video], "de")[0], model.encode_video(videos, "de")[row], **NEAR)
    middle = videos[3][[2, 8, 13, 19, 24, 30]]  # the middles of six parts of 33
    torch.testing.assert_close(model.encode_video([middle], "de"), model.encode_video(videos[3:], "de"), **NEAR)


def test_features_of_a_text_encoder_alone(bases):
    model = CCRModel.from_base(bases["bert"], visual_dim=10)
    model.add_language("de", DASDConfig(r=4), head=HeadConfig(space=20, width=16, attention_heads=2, frames=4))
    videos = [torch.randn(7, 10), torch.randn(2, 10)]
    assert model.encode_video(videos, "de").shape == (2, 20)
    assert model.encode_video([], "de").shape == (0, 20)
    with pytest.raises(VideoError, match="Video 1 has features of width 32; this model takes 10"):
        model.encode_video([videos[0], torch.randn(7, 32)], "de")
    with pytest.raises(ImageError, match=r"Video 0: this base has no tower that sees.*\(T, 10\)"):
        model.encode_video([[Image.new("RGB", (9, 9))]], "de")


def test_frames_of_several_videos_share_passes(model, clips):
    sizes = []
    model.base.vision_model.register_forward_pre_hook(
        lambda _module, _args, values: sizes.append(len(values["pixel_values"])), with_kwargs=True
    )
    model.encode_video(clips, None, batch_size=10)
    assert sizes == [10, 10, 4]


class Lazy:
    """Features on a disk, which counts how many were read."""

    def __init__(self, length, width):
        self.length, self.width, self.read = length, width, 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        self.read += 1
        return np.full((3, self.width), index + 1.0, np.float32)


def test_features_on_a_disk_are_read_when_their_turn_comes(model):
    videos = Lazy(200, model.embedding_dim)
    rows = frame_vectors(model, videos, batch_size=16)
    next(rows)
    assert videos.read <= 20
    rows.close()
    assert model.encode_video(Lazy(200, model.embedding_dim), "de").shape == (200, 20)
    with pytest.raises(VideoError, match="Video 0 has features of width 7"):
        model.encode_video(Lazy(3, 7), "de")


def test_bad_videos_are_named_before_any_pass(model, clips, tmp_path):
    passes = []
    model.base.vision_model.register_forward_pre_hook(lambda *_: passes.append(1))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"bad\.mp4' cannot be read"):
        model.encode_video([*clips, tmp_path / "bad.mp4"], None)
    with pytest.raises(VideoError, match=r"missing\.mp4' is missing"):
        model.encode_video([*clips, "missing.mp4"], None)
    with pytest.raises(VideoError, match="1 or more"):
        model.encode_video(clips, None, frames=0)
    with pytest.raises(VideoError, match="1 or more"):
        model.encode_video(clips, None, batch_size=0)
    assert passes == []


def test_nothing_in_nothing_out(model):
    assert model.encode_video([], None).shape == (0, model.embedding_dim)
    assert model.encode_video(iter(()), "de").shape == (0, 20)
    assert model.encode_frames([]) == []


def test_a_bare_module_takes_features_alone(tiny_clip, clips):
    model = CCRModel.from_base(tiny_clip())
    assert model.encode_video([torch.randn(3, model.embedding_dim)], None).shape == (1, model.embedding_dim)
    with pytest.raises(ConfigError, match="no processor"):
        model.encode_video(clips, None)


# ---------------------------------------------------------------------------------------------------------------- X-CLIP


@pytest.fixture(params=["picture by picture", "clip by clip"])
def xclip(request, base_tokenizer):
    """An X-CLIP for clips of four frames, with either kind of image processor that its checkpoints name."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    text = XCLIPTextConfig(**sizes, vocab_size=200, max_position_embeddings=24, eos_token_id=3, bos_token_id=1)
    mit = {"mit_hidden_size": 24, "mit_intermediate_size": 10, "mit_num_attention_heads": 2}
    vision = XCLIPVisionConfig(**sizes, **mit, image_size=16, patch_size=8, num_frames=4)
    config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=24, prompt_num_attention_heads=2)
    torch.manual_seed(1)
    size = {"height": 16, "width": 16}
    kind = CLIPImageProcessorPil if request.param == "picture by picture" else VideoMAEImageProcessorPil
    processor = CCRProcessor(base_tokenizer, kind(size=size, crop_size=size), base_max_length=24)
    return CCRModel.from_base(XCLIPModel(config).eval(), processor=processor)


@pytest.mark.parametrize("size", [1, 8, 32])
def test_x_clip_reads_clips_itself(size, xclip, clips):
    expected = []
    for clip in clips:
        pictures = sample_frames(clip, 4)
        processor = xclip.processor.image_processor
        own = processor(pictures, return_tensors="pt")["pixel_values"].reshape(1, 4, 3, 16, 16)
        with torch.no_grad():
            expected.append(F.normalize(xclip.base.get_video_features(own).pooler_output, dim=-1))
    found = xclip.encode_video(clips, None, batch_size=size)
    torch.testing.assert_close(found, torch.cat(expected), **NEAR)
    arrays = [np.stack([np.asarray(picture) for picture in sample_frames(clip, 4)]) for clip in clips]
    torch.testing.assert_close(xclip.encode_video(arrays, None, batch_size=size), found, **NEAR)
    features = xclip.encode_frames(clips)
    assert [own.shape for own in features] == [(1, 24)] * 3
    mixed = [features[0], clips[1], features[2]]
    torch.testing.assert_close(xclip.encode_video(mixed, None, batch_size=size), found, **NEAR)


@pytest.mark.parametrize("frames", [0, 6])
def test_a_head_beside_x_clip_maps_its_clips(frames, xclip, clips):
    head = HeadConfig(space=20, width=16, attention_heads=2, frames=frames)
    xclip.add_language("de", DASDConfig(r=4), head=head)
    xclip.eval()
    expected = xclip.map_visual(xclip.encode_video(clips, None), "de")
    torch.testing.assert_close(xclip.encode_video(clips, "de"), expected, **NEAR)


def test_x_clip_wants_its_number_of_frames(xclip, clips):
    with pytest.raises(VideoError, match="clips of 4 frames, not of 5"):
        xclip.encode_video(clips, None, frames=5)
    short = [[Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]]  # two frames, each shown twice
    long = [[Image.new("RGB", (9, 9), colour) for colour in ("red", "red", "blue", "blue")]]
    torch.testing.assert_close(xclip.encode_video(short, None), xclip.encode_video(long, None), **NEAR)


# --------------------------------------------------------------------------------------------------------------- motion


def moving_clips(folder, start, number):
    """Files and captions of a star that moves to the left, or to the right, in front of a square, in turn."""
    paths, captions = [], []
    for jitter in range(start, start + number):
        for direction in ("left", "right"):
            star, square = Thing("star", "red", "small"), Thing("square", "blue", "large")
            scene = MovingScene(star, direction, square, "in_front_of", "sky", jitter)
            paths.append(folder / f"{jitter}-{direction}.mp4")
            write_video(paths[-1], render_clip(scene, frames=8))
            message = motion_message(scene, random.Random(jitter))
            captions.append(motion_caption(message, direction, "de", "declarative"))
    return paths, captions


def word_tokenizer(captions):
    """A tokenizer of whole words."""
    words = sorted({word for caption in captions for word in caption.replace(".", " .").split()})
    table = {word: number for number, word in enumerate(["[PAD]", "[BOS]", "[UNK]", "[EOS]", *words])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 3)]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "bos", "eos")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **special)


def shown_first(model, captions, videos):
    """Share of captions that prefer their clip over the same one backwards."""
    scores = model.encode_text(captions, "de") @ model.encode_video(videos, "de").T
    rows = torch.arange(len(captions))
    return (scores[rows, rows] > scores[rows, rows ^ 1]).float().mean().item()


STEPS = 250


def trained(tokenizer, captions, videos, frames):
    """A language that learned from clips by frames in their order, or by their mean (`frames=0`)."""
    torch.manual_seed(0)
    model = CCRModel.from_base(tiny_clip_path())
    head = HeadConfig(space=64, width=128, attention_heads=4, frames=frames, dropout=0.0)
    model.add_language("de", FullConfig(head=False), tokenizer=tokenizer, head=head)
    parameters = model.trainable("de")
    seen = set(model.heads["de"].visual.parameters())
    groups = [{"params": [p for p in parameters if p not in seen]}, {"params": list(seen), "lr": 3e-3}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    # at a rate that does not fall, the last bits of a machine's products decide where it ends
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    index = np.arange(len(videos))
    collate = TargetCollator(model.processor, "de", mean_frames(videos), index, videos=videos, most_frames=frames)
    draw = np.random.default_rng(0)
    model.train()
    for _ in range(STEPS):
        rows = draw.integers(len(videos) // 2, size=16) * 2 + np.arange(16) % 2  # as many of either direction
        batch = collate([{"row": row, "translation": captions[row]} for row in rows])
        ids = [batch[f"target_{name}"] for name in ("input_ids", "attention_mask", "pooled_at")]
        text = model.target_features(*ids, "de")[0]
        visual = model.heads["de"].visual(batch.get("visual_frames", batch["visual_vectors"]), batch.get("visual_mask"))
        loss = info_nce(text, visual, scale=20.0, ids=torch.from_numpy(rows % 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def test_a_temporal_head_learns_what_the_mean_cannot_know(tmp_path):
    paths, captions = moving_clips(tmp_path, 0, 16)
    new_paths, new_captions = moving_clips(tmp_path, 1000, 16)
    base = CCRModel.from_base(tiny_clip_path())
    videos, new_videos = base.encode_frames(paths), base.encode_frames(new_paths)
    # CLIP's vectors lie in a narrow cone; around their centre the frames of a clip differ
    centre = np.concatenate(videos).mean(0)
    videos, new_videos = ([frames - centre for frames in each] for each in (videos, new_videos))
    tokenizer = word_tokenizer(captions)
    temporal = trained(tokenizer, captions, videos, frames=8)
    mean = trained(tokenizer, captions, videos, frames=0)
    assert shown_first(temporal, new_captions, new_videos) >= 0.9
    assert shown_first(mean, new_captions, new_videos) <= 0.75
