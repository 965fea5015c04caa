import json
import math

import pytest

from glc_toolkit.evaluation import curves


def curve(name, scale=1.0, points=4):
    bpp = [0.01 * 2**i for i in range(points)]
    return {
        "name": name,
        "results": {
            "bpp": [scale * rate for rate in bpp],
            "psnr-rgb": [20.0 + i for i in range(points)],
            "dists": [0.4 - 0.05 * i for i in range(points)],
            "encoding_time": bpp,
        },
    }


def test_the_published_curves_are_whole():
    found = curves.published()
    assert {c["dataset"] for c in found} >= {"Kodak", "CLIC2020", "DIV2K", "HEVC-B", "MCL-JCV", "UVG"}
    for c in found:
        assert c["source"] and c["description"]
        assert {len(values) for values in c["results"].values()} == {len(c["results"]["bpp"])}
        if len(c["results"]["bpp"]) > 1:
            for metric in curves.metrics_of(c):
                values = [value for _, value in curves.points(c, metric)]
                assert values == sorted(values, reverse=not curves.higher_is_better(metric))
    with pytest.raises(ValueError, match="no published curves on 'kodak'"):
        curves.published("kodak")


@pytest.mark.parametrize(
    "text, message",
    [
        (json.dumps({"name": "a", "results": {"bpp": [1], "psnr": [10**400]}}), "larger than any float"),
        (json.dumps({"name": "a", "results": {"bpp": [1], "psnr": ["high"]}}), "no numbers"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_curves_that_are_none(tmp_path, text, message):
    (tmp_path / "curves.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        curves.read(tmp_path / "curves.json")


def test_half_the_bits_are_a_rate_of_minus_fifty():
    (row,) = curves.bd_rates([curve("a")], [curve("b", 0.5)])
    rates = {"psnr-rgb": pytest.approx(-50), "dists": pytest.approx(-50)}
    assert row == {"codec": "b", **rates, "psnr-rgb-overlap": 1, "dists-overlap": 1}


def test_there_is_no_rate_where_there_is_too_little():
    apart = curve("apart")
    apart["results"]["psnr-rgb"] = [30.0, 31.0, 32.0, 33.0]
    bumpy = curve("bumpy")
    bumpy["results"]["psnr-rgb"] = [20.0, 22.0, 21.0, 23.0]
    rows = curves.bd_rates([curve("a")], [curve("three", points=3), apart, bumpy])
    assert all(math.isnan(row["psnr-rgb"]) for row in rows)
    assert rows[1]["psnr-rgb-overlap"] == 0


def test_results_of_compressai_are_read(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(curve("a")))
    (tmp_path / "two.json").write_text(json.dumps([curve("a"), curve("b")]))
    assert [len(curves.read(tmp_path / name)) for name in ("one.json", "two.json")] == [1, 2]
    (tmp_path / "none.json").write_text('{"name": "a"}')
    with pytest.raises(ValueError, match="holds no results"):
        curves.read(tmp_path / "none.json")


def test_a_plot_names_its_curves(tmp_path):
    file = tmp_path / "rd.svg"
    curves.plot([curve("mine"), *curves.published("Kodak")], file, ["dists"])
    assert file.stat().st_size > 10_000
    with pytest.raises(ValueError, match="no curve has beauty"):
        curves.plot([curve("mine")], file, ["beauty"])
    with pytest.raises(ValueError, match="nothing to draw"):
        curves.plot([], file)
    lonely = {"name": "lonely", "results": {"bpp": [0.1], "other": [1.0]}}
    with pytest.raises(ValueError, match="no two curves have a metric in common"):
        curves.plot([curve("mine"), lonely], file)
    with pytest.raises(ValueError, match=r"cannot tell a format from the name .*rd; try"):
        curves.plot([curve("mine")], tmp_path / "rd")


def test_names_without_their_colours_are_the_same_metrics():
    """As results other than those of ``glc eval`` have them."""
    a, b = curve("a"), curve("b", 0.5)
    for c in (a, b):
        c["results"]["psnr"] = c["results"].pop("psnr-rgb")
    (row,) = curves.bd_rates([a], [b])
    assert row["psnr"] == pytest.approx(-50)


def test_curves_of_other_pictures_are_compared_with_a_warning():
    a, b = ({**curve(name), "protocol": {"images_sha256": name}} for name in "ab")
    with pytest.warns(UserWarning, match="'b' and the anchor were measured on different pictures"):
        curves.bd_rates([a], [b])
