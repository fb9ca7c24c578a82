"""The page builder, from lists and tokens alone: what stands in the file is what was given, and nothing else."""

import base64
import hashlib
import html.parser
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from illustrations import HOSTILE, data_of, hand_made
from tiny import tiny_config

from hf_vanilla_transformer.illustration.contents import Array
from hf_vanilla_transformer.illustration.page import LONGEST_PAGE, build_page
from hf_vanilla_transformer.illustration.positional_encodings import interleaved, two_halves
from hf_vanilla_transformer.illustration.quantising import first_columns, quantise, restore
from hf_vanilla_transformer.model.modeling_vanilla_transformer import SinusoidalPositionalEncoding


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, and the text of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.inside.append("")
        self.open = tag

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        if self.open in ("script", "style"):
            self.inside[-1] += data


@pytest.mark.parametrize("bits", [8, 16])
def test_a_quantised_number_is_at_most_half_a_step_off(bits):
    torch.manual_seed(0)
    values = torch.randn(3, 40).flatten().double()
    written = quantise(Array((3, 40), values.tolist()), bits)
    again = restore(written)
    assert again.shape == (3, 40)
    off = (torch.tensor(again.values, dtype=torch.float64) - values).abs().max()
    assert off <= written["step"] * 0.5000001
    assert written["step"] == pytest.approx(float(values.max() - values.min()) / (2**bits - 1))


@pytest.mark.parametrize("values", [[], [2.5, 2.5], [0.0]])
def test_nothing_to_spread_is_written_as_it_is(values):
    assert restore(quantise(Array((len(values),), values), 8)).values == values


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="A page shows finite numbers, but an array holds NaN or infinity"):
        quantise(Array((2,), [1.0, bad]), 8)


def test_an_array_holds_as_many_values_as_its_shape_says():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) has 6 values, but 5 were given"):
        Array((2, 3), [0.0] * 5)


def test_first_columns_cuts_the_last_axis():
    assert first_columns(Array((2, 3), [1, 2, 3, 4, 5, 6]), 2) == Array((2, 2), [1, 2, 4, 5])


@pytest.mark.parametrize(("convention", "formula"), [("interleaved", interleaved), ("tensor2tensor", two_halves)])
def test_the_encodings_compared_are_those_of_the_model(convention, formula):
    encoding = SinusoidalPositionalEncoding(tiny_config(positional_encoding=convention))
    own = formula(20, 32)
    torch.testing.assert_close(torch.tensor(own.values).view(own.shape), encoding(torch.arange(20)))


def test_the_file_asks_nobody_for_anything():
    page = build_page(hand_made())
    tags = Tags(page)
    for tag, attributes in tags.found:
        assert not {"src", "action", "srcset", "poster", "data"} & set(attributes), tag
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
    code = "".join(tags.inside)
    assert re.findall(r"https?://[^\s\"']+", code) == ["http://www.w3.org/2000/svg"]  # a name, never fetched
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|import|eval|innerHTML|outerHTML|insertAdjacentHTML|document\.write)\b", code
    )
    assert "@import" not in code
    assert "url(" not in code


def test_the_policy_names_the_scripts_and_styles_own_hashes():
    page = build_page(hand_made())
    tags = Tags(page)
    policy = next(a["content"] for tag, a in tags.found if a.get("http-equiv") == "Content-Security-Policy")
    style, data, script = tags.inside
    for name, text in (("style-src", style), ("script-src", script)):
        wanted = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{wanted}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert json.loads(data)


def test_hostile_text_cannot_leave_the_block_of_data():
    contents = hand_made(tokens=HOSTILE, model=HOSTILE[0])
    page = build_page(contents)
    quiet = build_page(hand_made())
    assert [tag for tag, _ in Tags(page).found] == [tag for tag, _ in Tags(quiet).found]
    block = re.search(r'id="page-data">(.*?)</script>', page, re.DOTALL)[1]
    assert not set("<>&\u2028\u2029") & set(block)
    data = data_of(page)
    assert [token["text"] for token in data["source"]["tokens"]] == list(HOSTILE)
    assert data["model"] == HOSTILE[0]


def test_half_a_surrogate_pair_is_written_too():
    page = build_page(replace(hand_made(), source_text="half \ud83d"))
    page.encode("utf-8")
    assert data_of(page)["source"]["text"] == "half \ud83d"


def test_a_page_of_base_size_and_30_tokens_is_under_3_megabytes():
    """Section 4 of the paper's table 3: 6 layers of 8 heads, d_model 512, d_ff 2048; all arrays are there."""
    page = build_page(hand_made(tokens=["word"] * 30, layers=6, heads=8, d_k=64, d_ff=2048))
    assert len(page.encode()) < LONGEST_PAGE < 3_000_000
    layer = data_of(page)["layers"]["encoder"][5]
    assert layer["stages"][0]["width"] == 512
    assert layer["stages"][0]["values"]["shape"][1] >= 64


def test_a_small_page_is_not_rounded_more_than_needed():
    data = data_of(build_page(hand_made()))
    assert data["attention"]["encoder"]["layers"][0]["query"]["bits"] == 16


def test_every_template_is_part_of_the_package():
    """Files that no list names would be missing in the page; those that are listed are read by `build_page`."""
    from importlib.resources import files

    from hf_vanilla_transformer.illustration.page import SCRIPTS, STYLES

    folder = files("hf_vanilla_transformer.illustration") / "templates"
    assert {entry.name for entry in folder.iterdir()} == {"page.html", *SCRIPTS, *STYLES}
