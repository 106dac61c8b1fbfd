"""The pages that compute: what they compute is what Python computes, and a keyboard reaches all of it."""

import json
from typing import Any

import pytest
import torch

from flowlib import ClassifierFreeGuidance, sample_ode
from flowlib.runs import load_pretrained
from flowlib.systems.inpainting import ReplacedPixels

pytestmark = pytest.mark.full


def test_the_plane_samples_and_a_slider_changes_the_samples(visit: Any) -> None:
    page = visit("play/plane")
    before = page.evaluate("plane.result().ends")
    assert len(before) == 300
    page.locator("#control-steps").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("plane.result().calls === 34")  # 17 steps of Heun's method
    assert page.evaluate("plane.result().ends") != before
    assert "Evaluations a sample: 34" in page.locator(".play-numbers").text_content()


def test_a_gaussian_is_moved_by_the_keyboard(visit: Any) -> None:
    page = visit("play/plane")
    before = page.evaluate("plane.state.means[0]")
    page.locator(".play-handle").first.focus()
    page.keyboard.press("ArrowRight")
    after = page.evaluate("plane.state.means[0]")
    assert after[0] == pytest.approx(before[0] + 0.1)


def test_the_plane_shows_what_the_lectures_claim(visit: Any) -> None:
    page = visit("play/plane")

    def at(name: str, **changes: object) -> dict[str, Any]:
        page.get_by_role("button", name=name).click()
        page.evaluate(f"plane.renew({json.dumps(changes)})")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return page.evaluate("plane.result()")

    coarse, fine = (at("01 steps", steps=steps)["apart"] for steps in (20, 40))
    assert 1.7 < coarse / fine < 2.4
    coarse, fine = (at("01 steps", method="heun", steps=steps)["apart"] for steps in (20, 40))
    assert coarse / fine > 3
    assert at("03 straight")["apart"] < 1e-9
    assert at("04 constant g", steps=200)["distance"] > 10 * at("04 constant g", steps=50)["distance"] > 10
    guided = at("05 guidance")
    assert guided["distance"] > 3 * guided["floor"]
    plain = at("05 guidance", w=1)
    assert plain["distance"] < 2 * plain["floor"]


def test_digits_are_pythons_from_the_same_noise_and_follow_the_label(visit: Any) -> None:
    page = visit("play/digits")
    page.evaluate("digits.ready")
    field = load_pretrained("digits", "cpu").field
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 3, 3, 10])
    for method in ("euler", "heun"):
        options = json.dumps({"w": 2.0, "steps": 6, "method": method})
        given = f"digits.follow(Float32Array.from({noise.flatten().tolist()}), {y.tolist()}, {options})"
        found = page.evaluate(f"{given}.then(way => Array.from(way.at(-1)))")
        expected = sample_ode(ClassifierFreeGuidance(field, 2.0), noise, y, steps=6, method=method)
        torch.testing.assert_close(torch.tensor(found).view_as(expected), expected, rtol=0, atol=1e-3)
    before = page.evaluate("Array.from(digits.states().at(-1))")
    page.locator("#control-label").select_option("3")
    page.wait_for_function("before => digits.states().at(-1).some((v, i) => v !== before[i])", arg=before)


def test_half_a_digit_is_finished_as_python_does_and_drawn_by_the_keyboard(visit: Any) -> None:
    page = visit("play/digits")
    page.evaluate("digits.ready")
    field = load_pretrained("digits", "cpu").field
    generator = torch.Generator().manual_seed(1)
    noise, image = torch.randn(3, 1, 8, 8, generator=generator), torch.rand(1, 8, 8, generator=generator) * 2 - 1
    y, mask = torch.tensor([3, 8, 10]), (torch.arange(8) < 4).float().expand(1, 8, 8)
    options = json.dumps({"w": 2.0, "steps": 5, "method": "heun", "half": "left", "image": image.flatten().tolist()})
    given = f"digits.follow(Float32Array.from({noise.flatten().tolist()}), {y.tolist()}, {options})"
    found = page.evaluate(f"{given}.then(way => Array.from(way.at(-1)))")
    replaced = ReplacedPixels(ClassifierFreeGuidance(field, 2.0), image, mask, noise)
    expected = sample_ode(replaced, noise, y, steps=5, method="heun")
    torch.testing.assert_close(torch.tensor(found).view_as(expected), expected, rtol=0, atol=1e-3)

    page.get_by_role("button", name="Half a digit").press("Enter")
    pen = page.locator(".play-pad .play-pixel")
    before = page.evaluate("[Array.from(digits.pad.values), Array.from(digits.states().at(-1))]")
    pen.press("ArrowLeft")
    pen.press("ArrowUp")
    assert "row 1, column 3" in pen.get_attribute("aria-label")
    pen.press("Enter")  # what was ink is paper now
    page.wait_for_function("before => digits.states().at(-1).some((v, i) => v !== before[i])", arg=before[1])
    page.evaluate("digits.renew()")
    after = page.evaluate("[Array.from(digits.pad.values), Array.from(digits.states().at(-1))]")
    assert [i for i in range(64) if after[0][i] != before[0][i]] == [2]
    assert after[1][:32] == pytest.approx(after[0][:32], abs=1e-5)  # the upper half of the first digit


def test_scenes_and_masks_are_pythons_from_the_same_noise(visit: Any) -> None:
    page = visit("play/scenes")
    page.evaluate("scenes.ready")
    run, sam = load_pretrained("scenes-text", "cpu"), load_pretrained("sam", "cpu").module
    noise, caption = (
        torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "a red seven above a blue two",
    )
    given = f"scenes.follow(Float32Array.from({noise.flatten().tolist()}), {json.dumps(caption)}, {{w: 3, steps: 6}})"
    found = torch.tensor(page.evaluate(f"{given}.then(Array.from)")).view_as(noise)
    y = run.field.net.tokenizer([caption] * 2)
    guided = ClassifierFreeGuidance(run.field, 3.0)
    expected = sample_ode(guided, noise, y, steps=6, method="heun", denoise_last=True).clamp(-1, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

    image = f"Float32Array.from({expected[0].flatten().tolist()})"
    answer = page.evaluate(
        f"scenes.embed({image}).then(e => scenes.ask(e, [5, 4]))"
        ".then(masks => masks.map(one => [one.iou, ...one.logits]))"
    )
    logits, iou = sam(expected[:1], torch.tensor([[[5.0, 4.0]]]), torch.tensor([[1]]))
    rows = torch.cat([iou[0, :, None], logits[0].flatten(1)], 1)[iou[0].argsort(descending=True)]
    torch.testing.assert_close(torch.tensor(answer), rows, rtol=0, atol=1e-3)


def test_a_scene_is_drawn_and_asked_by_the_keyboard(visit: Any) -> None:
    page = visit("play/scenes")
    page.evaluate("scenes.ready")
    field, said = page.locator("#control-caption"), page.locator(".play-numbers")
    page.evaluate("scenes.renew({steps: 4})")
    before = page.evaluate("Array.from(scenes.images())")
    page.locator("#control-steps").press("ArrowLeft")
    page.wait_for_function("before => scenes.images().some((v, i) => v !== before[i])", arg=before)
    for text, error in (
        ("  ", "The caption is empty"),
        ("xyzw" * 9, "The caption is too long: 36 tokens, and 22 at most"),
    ):
        field.fill(text)
        field.press("Enter")
        page.wait_for_function(
            "text => document.querySelector('.play-numbers').textContent.startsWith(text)", arg=error
        )
    field.fill("a pink five, on white")  # in three steps
    field.press("Enter")
    page.wait_for_function("document.querySelector('.play-numbers').textContent.startsWith('4 pictures')")
    assert "a pink five, on white" in page.locator(".play-large canvas").get_attribute("aria-label")
    point = page.locator(".play-large .play-pixel")
    point.press("ArrowDown")
    assert page.evaluate("scenes.state.point") == [4, 5]
    point.press("Enter")
    page.wait_for_function("scenes.answer() !== null")
    assert said.text_content().startswith("Three masks for one click")
    for k in (2, 3):
        page.get_by_role("button", name=f"mask {k}: IoU").press("Enter")
        assert f"mask {k} of 3 covers" in page.locator(".play-large canvas").get_attribute("aria-label")
    page.locator(".play-gallery button").nth(1).press("Enter")
    assert page.evaluate("[scenes.state.chosen, scenes.answer()]") == [1, None]


def test_every_control_of_a_playing_page_has_a_name_and_is_reached_by_the_tab_key(window: Any) -> None:
    shown = "[...document.querySelectorAll('.play :is(button, input, select)')]"
    shown += ".filter(e => e.offsetParent && !e.disabled)"
    name_of = "e.labels?.[0]?.textContent || e.ariaLabel || e.textContent || e.firstChild?.ariaLabel"
    for name in ("plane", "digits", "scenes"):
        page = window(f"play/{name}")
        page.evaluate(f"globalThis.{name}.ready")
        names = page.evaluate(f"{shown}.map(e => {name_of})")
        assert all(names), names
        page.evaluate(f"{shown}[0].focus()")
        for i in range(1, len(names)):
            page.keyboard.press("Tab")
            assert page.evaluate(f"document.activeElement === {shown}[{i}]"), (name, names[i])
