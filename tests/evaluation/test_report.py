import json
import re
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from glc_toolkit import io
from glc_toolkit.cli import cli, main
from glc_toolkit.evaluation import report as r

HOSTILE = "<img src=x onerror=alert(1)>&'.png"
CURVE = {"name": "</script><b>", "results": {"bpp": [0.1, 0.2], "psnr-rgb": [20.0, None], "time": [1, 2]}}


@pytest.fixture(scope="module")
def made(photo, tiny_folder, tmp_path_factory):
    """A page of two pictures, and the rows that were told on the way."""
    folder = tmp_path_factory.mktemp("report")
    photo.crop((100, 60, 196, 140)).save(folder / "lake.png")
    photo.crop((0, 200, 70, 250)).save(folder / HOSTILE)
    (folder / "curve.json").write_text(json.dumps(CURVE))
    pictures = [folder / "lake.png", folder / HOSTILE]
    rows = list(
        r.report(pictures, folder / "r.html", str(tiny_folder), (), ["psnr"], [folder / "curve.json"], "glc <x>")
    )
    return folder / "r.html", rows, pictures


def content(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_holds_everything_it_shows_and_asks_for_nothing(made):
    file, rows, pictures = made
    page = file.read_text("utf-8")
    data = content(page)
    assert 2 < len(rows) == sum(len(p["items"]) for p in data["pictures"]) <= r.steps(pictures, 3)
    assert [row["bytes"] for row in rows] == [i["bytes"] for p in data["pictures"] for i in p["items"]]
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "default-src 'none'" in page
    sources = [source for p in data["pictures"] for source in (p["src"], *(item["src"] for item in p["items"]))]
    assert all(source.startswith("data:image/") for source in sources)


def test_pictures_are_those_that_were_measured(made):
    """The original pixel by pixel, and of a rival the very file."""
    file, _, pictures = made
    shown = content(file.read_text("utf-8"))["pictures"][0]
    original = io.to_pillow(io.to_tensor(pictures[0]))
    assert embedded(shown["src"])[1].tobytes() == original.tobytes()
    for item in shown["items"]:
        data, image = embedded(item["src"])
        assert image.size == original.size
        assert item["codec"] in ("GLC", "quarter AVIF + Real-ESRGAN") or len(data) == item["bytes"]
        assert io.to_tensor(image).sub(io.to_tensor(original)).square().mean() == pytest.approx(
            10 ** (-item["psnr"] / 10), rel=1e-4
        )


def embedded(source: str) -> tuple[bytes, Image.Image]:
    import base64
    from io import BytesIO

    data = base64.b64decode(source.partition(",")[2])
    return data, Image.open(BytesIO(data)).convert("RGB")


def test_points_name_the_nearest_file_of_each_codec(made):
    shown = content(made[0].read_text("utf-8"))["pictures"][0]
    assert [point["label"].split()[-1] for point in shown["points"]] == ["q0", "q1", "q2", "bytes", "bytes"]
    assert content(made[0].read_text("utf-8"))["usual"] == 1  # the middle level of the tiny model
    for point in shown["points"]:
        for codec, chosen in point["items"].items():
            own = [item for item in shown["items"] if item["codec"] == codec]
            if codec != "GLC":
                best = min(abs(item["bytes"] - point["size"]) for item in own)
                assert abs(shown["items"][chosen]["bytes"] - point["size"]) == best
    for item in shown["items"]:
        if item["codec"] == "GLC":
            total = sum(map(sum, item["bits"])) / 8
            assert abs(total - item["bytes"]) <= 0.01 * item["bytes"] + 16


def test_names_from_outside_are_text(made):
    page = made[0].read_text("utf-8")
    assert HOSTILE not in page and "&lt;img src=x onerror=alert(1)&gt;&amp;" in page
    assert "</script><b>" not in page and content(page)["curves"][0]["name"] == CURVE["name"]
    assert "glc &lt;x&gt;" in page


def test_means(made):
    data = content(made[0].read_text("utf-8"))
    first = data["mean"][0]
    assert first["codec"] == "GLC" and first["setting"] == "q0"
    assert first["bytes"] == sum(p["items"][0]["bytes"] for p in data["pictures"]) / 2
    assert f"<td>{first['psnr']:.2f}</td>" in made[0].read_text("utf-8")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "curve.json is no JSON"),
        ("\ud800", "curve.json is no JSON"),
        ("[3]", "not in the layout"),
        ('{"results": {"bpp": [0]}}', "list of positive numbers"),
        ('{"results": {"bpp": [NaN]}}', "list of positive numbers"),
        ('{"results": {"bpp": [1%s]}}' % ("0" * 400), "list of positive numbers"),
        ('{"results": {"bpp": [1], "psnr": [1%s]}}' % ("0" * 400), "psnr has to be a list of 1 numbers"),
        ('{"results": {"bpp": [1, 2], "psnr-rgb": [1]}}', "psnr-rgb has to be a list of 2 numbers"),
        ('{"results": {"bpp": [1], "beauty": [1]}}', "has none of psnr"),
    ],
)
def test_curves_that_are_none(text, message, tmp_path):
    (tmp_path / "curve.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=message):
        r.read_curves(tmp_path / "curve.json", ["psnr"])


def test_curves(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps([CURVE, {**CURVE, "name": "b"}]))
    curves = r.read_curves(tmp_path / "c.json", ["psnr", "dists"])
    assert curves[0] == {"name": CURVE["name"], "bpp": [0.1, 0.2], "psnr": [20.0, None]}
    assert curves[1]["name"] == "b"


def test_the_command_says_how_it_was_called(made, tiny_folder, tmp_path, monkeypatch, capsys):
    picture, out = made[2][0], tmp_path / "my report.html"
    monkeypatch.setattr(
        sys,
        "argv",
        ["glc", "report", str(picture), "-o", str(out), "-m", str(tiny_folder), *["-q", "0.5", "--metric", "psnr"]],
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0 and "1 pictures" in capsys.readouterr().out
    assert f"glc report {picture} -o &#39;{out}&#39; -m {tiny_folder} -q 0.5 --metric psnr" in out.read_text("utf-8")


def test_a_picture_is_not_written_over_and_nothing_half_done_stays(made, tiny_folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    options = ["-m", str(tiny_folder), "--metric", "psnr"]
    for arguments, code, message in [
        ([made[2][0], "-o", made[2][0]], 2, "is the file to read"),
        ([tmp_path / "broken.png", "-o", tmp_path / "r.html"], 1, "cannot be read as a picture"),
        ([made[2][0], "-o", tmp_path / "broken.png" / "r.html"], 1, "broken.png is a file"),
        ([made[2][0], "-o", tmp_path / "r.html", "-q", "9"], 2, "quality has to be between"),
        ([made[2][0], "-o", tmp_path / "r.html", "--curves", tmp_path / "broken.png"], 1, "is no JSON"),
    ]:
        result = CliRunner().invoke(cli, ["report", *map(str, arguments), *options])
        assert (result.exit_code, len(result.output.strip().splitlines())) == (code, 1), result.output
        assert message in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]
