"""`tidepool snapshot` on a data directory that nobody serves: what each command does, prints, changes, and ends with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from service.boot.commands.told import Failure, Told, answered, opened_prefix
from service.boot.terms import permissions
from service.engine.codes import format_id
from service.engine.errors import Damaged, Locked
from service.engine.layout import FORMAT, LogRow
from service.engine.requests import AddAssets, CreateIndex, DeleteAsset, DeleteIndex, Request
from service.tables import moment
from snapshots.errors import Corrupt, Fenced, Foreign, Missing, NoRoom, Refused, Unreachable
from snapshots.log import START, Header, LogObject, Row, freeze
from snapshots.manifest import EMPTY_LOG
from snapshots.mark import read_mark
from snapshots.paths import manifest_key
from snapshots.start import Action, Disk, Remote, decide
from snapshots.walk import Diverged
from tests.commanding import ROWS, Place, Story, assets, blobs, filled, require_error, story_in, tree
from tests.engine.building import asset, key
from tests.project import ROOT

COMMANDS = ["init", "create", "list", "show", "diff", "verify", "restore", "pin", "unpin", "prune", "gc", "doctor"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Made once."""
    with story_in(tmp_path_factory.mktemp("story")) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty one."""
    return Place(tmp_path, monkeypatch)


def test_every_command_is_there_and_explains_itself(place: Place) -> None:
    for name in COMMANDS:
        helped = place.run(name, "--help")
        assert helped.code == 0
        assert "--bucket URL" in helped.out
        assert "--json" in helped.out


def test_the_group_is_loaded_late() -> None:
    """`--version` imports neither the engine nor snapshots nor this group."""
    script = (
        "import sys\nfrom click.testing import CliRunner\nfrom service.cli import main\n"
        "CliRunner().invoke(main, ['--version'])\n"
        "print([name for name in sys.modules if name.startswith(('service.snapshot', 'service.boot', 'snapshots'))])"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_bucket(place: Place) -> None:
    """Snapshots that are switched off are a setting to change; a file is shown all the same."""
    for name in ("list", "init", "prune", "gc", "doctor", "verify", "create"):
        require_error(place.run(name, SNAPSHOT_URL="none"), 2, "ISCC_SEARCH_SNAPSHOT_URL is none")
    require_error(place.run("show", "some.log", SNAPSHOT_URL="none"), 3, "there is no file some.log")


def test_a_bucket_that_is_not_there(place: Place) -> None:
    """Looking makes no directory."""
    for command in (["list"], ["show", 1], ["diff", 1, 2], ["verify"], ["prune", "--apply"], ["gc", "--apply"], ["doctor"], ["pin", "a"]):
        require_error(place.run(*command), 3, "there is no bucket file://")
    assert not place.bucket.exists()


def test_a_failure_is_a_document_too(place: Place) -> None:
    ran = place.run("list", "--json")
    assert (ran.code, ran.json["code"]) == (3, 3)
    assert ran.err == f"tidepool: {ran.json['error']}\n"


def test_wrong_settings_and_arguments(place: Place) -> None:
    """End with 2, before anything is touched."""
    place.bucket.mkdir()
    require_error(place.run("list", "--bucket", "ftp://somewhere"), 2, "SNAPSHOT_URL='ftp://somewhere': expected")
    for arguments in (
        ["diff", 1],
        ["restore"],
        ["restore", "--target", "x", "--sequence", 1, "--generation", 2],
        ["verify", "--full", "--sample", "2%"],
        ["verify", "--sample", "0"],
        ["verify", "--sample", "many"],
        ["verify", "--drill", "--full"],
        ["verify", "--drill", 3],
        ["verify", "--url", "http://127.0.0.1:1"],
        ["show", 1, "--adds", "a"],
        ["show", "some.log", "--adds", "a", "--deletes", "a"],
        ["pin", "a", "--expires", "soon"],
        ["pin", "a", "--expires", "0"],
        ["nothing"],
    ):
        assert place.run(*arguments).code == 2, arguments
    assert list(place.bucket.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-11-20T10:15:00", "has no zone: write it in UTC with Z at its end"),
        ("2026-11-20", "has no zone"),
        ("yesterday", "is no time: write 2026-11-20T10:15:00Z"),
    ],
)
def test_a_time_needs_a_zone(place: Place, text: str, words: str) -> None:
    """Otherwise it would be another moment on each machine."""
    ran = place.run("restore", "--target", "x", "--at", text)
    assert ran.code == 2
    assert words in ran.err


def test_init(place: Place) -> None:
    """Allows a first start, says when there is nothing to do, and leaves a lineage alone."""
    first = place.run("init", "--json")
    assert (first.code, first.json["changed"], first.json["generation"]) == (0, True, 0)
    with opened_prefix(place.settings) as prefix:
        remote = Remote("s3://x/y", prefix.format() is not None, prefix.newest())
    allowed = permissions(msgspec.structs.replace(place.settings, snapshot_url="s3://x/y"), "")
    assert decide(Disk("none"), remote, allowed, lambda mark, newest: pytest.fail("nothing to compare")).action is Action.CREATE
    again = place.run("init")
    assert again.code == 0
    assert "is initialised already" in again.out
    filled(place)
    before = tree(place.bucket)
    kept = place.run("init")
    assert kept.code == 0
    assert "nothing was changed" in kept.out
    assert tree(place.bucket) == before


def test_list(story: Story) -> None:
    """The table has each generation; the document is the list that the service answers."""
    ran = story.place.run("list")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0].split()[:5] == ["generation", "kind", "created", "request", "assets"]
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "claim"], ["2", "checkpoint"]]
    assert "every moment since" in lines[-1]
    found = story.place.run("list", "--json").json
    assert [(each["generation"], each["kind"], each["base_sequence"]) for each in found] == [(1, "claim", 0), (2, "checkpoint", ROWS // 2)]
    assert found[1]["counts"]["assets"] == len(story.states[ROWS // 2])
    assert all(each["restorable"] and each["replayable"] for each in found)


def test_list_of_an_empty_prefix(place: Place) -> None:
    place.bucket.mkdir()
    assert place.run("list").out == f"{place.bucket.as_uri()} holds no generation\n"
    assert place.run("list", "--json").json == []


def test_another_bucket_without_settings(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--bucket` is all that a machine needs to look."""
    elsewhere = Place(tmp_path, monkeypatch)
    ran = elsewhere.run("list", "--json", "--bucket", story.place.bucket.as_uri(), SNAPSHOT_URL="s3://nowhere/near")
    assert ran.json == story.place.run("list", "--json").json
    assert list(tmp_path.iterdir()) == []


def test_show_a_generation(story: Story) -> None:
    ran = story.place.run("show", 2)
    assert ran.code == 0
    assert re.search(rf"^base +generation 2, request {ROWS // 2}, ", ran.out, re.MULTILINE)
    assert re.search(r"^data\.mdb +[\d.]+ [KM]iB +1 +[0-9a-f]{8}$", ran.out, re.MULTILINE)
    found = story.place.run("show", 2, "--json").json
    assert found["files"][0]["path"] == "data.mdb"
    assert sum(each["bytes"] for each in found["files"]) == found["bytes"]
    require_error(story.place.run("show", 77), 3, "has no generation 77")


def test_show_a_file_of_unshipped_rows(story: Story, tmp_path: Path) -> None:
    """Header, and of each row its kind, index, time, ISCC-IDs and entries; for people a line for each. A damaged file is integrity."""
    place = story.place
    mark = read_mark(place.directory / "live")
    assert mark is not None
    with opened_prefix(place.settings) as prefix:
        rows = [row for found in prefix.follow(mark.lineage, EMPTY_LOG) for row in found.rows]
    header = Header(mark.lineage, mark.epoch, mark.writer, 1, START, 1, ROWS, ROWS, story.times[ROWS])
    path = tmp_path / f"1-{ROWS}.fenced-20261120T101500Z.log"
    path.write_bytes(freeze(header, rows)[0])
    ran = place.run("show", path)
    assert ran.code == 0
    assert re.search(rf"^requests +1 to {ROWS}$", ran.out, re.MULTILINE)
    found = place.run("show", path, "--json", SNAPSHOT_URL="none").json
    kinds = [row["kind"] for row in found["rows"]]
    assert kinds == ["create", *("delete" if number % 5 == 0 else "add" for number in range(2, ROWS + 1))]
    assert [row["time_us"] for row in found["rows"]] == story.times[1:]
    assert {row["index"] for row in found["rows"]} == {"a"}
    assert found["rows"][0]["iscc_ids"] == []
    assert all(len(row["iscc_ids"]) == 1 and row["iscc_ids"][0].startswith("ISCC:MAI") for row in found["rows"][1:])
    assert [[each["iscc_id"] for each in row["assets"]] for row in found["rows"]] == [
        row["iscc_ids"] if row["kind"] == "add" else [] for row in found["rows"]
    ]
    assert found["header"]["lineage"] == mark.lineage
    shown = [line.split() for line in ran.out.splitlines()[-ROWS:]]
    assert [(int(line[0]), line[1], line[-1]) for line in shown[1:]] == [
        (row["sequence"], moment(row["time_us"]), row["iscc_ids"][0]) for row in found["rows"][1:]
    ]
    assert shown[0][2:] == ["create", "index", "a"]
    assert [line[2:4] for line in shown[1:]] == [[row["kind"], "a"] for row in found["rows"][1:]]
    deleted = [row["iscc_ids"][0] for row in found["rows"] if row["kind"] == "delete"]
    left = [row["assets"][0] for row in found["rows"] if row["kind"] == "add" and row["iscc_ids"][0] not in deleted]
    assert re.search(rf"^index a +{len(left)} to add \(--adds a\), {len(deleted)} to delete \(--deletes a\)$", ran.out, re.MULTILINE)
    adds = place.run("show", path, "--adds", "a")
    assert (adds.code, [json.loads(line) for line in adds.out.splitlines()]) == (0, [left])
    assert place.run("show", path, "--adds", "a", "--json").json == [left]
    assert place.run("show", path, "--deletes", "a").out.split() == deleted
    assert place.run("show", path, "--deletes", "a", "--json").json == deleted
    require_error(place.run("show", path, "--adds", "b"), 3, "has nothing of an index b; it has a")
    damaged = path.with_name("damaged.log")
    damaged.write_bytes(path.read_bytes()[:-40] + b"x" * 40)
    require_error(place.run("show", damaged), 4, "log object differs from its digest")


def unshipped(path: Path, *requests: Request, format_: int = FORMAT, epoch: int = 1) -> Path:
    """A file of these."""
    rows = [Row(at, at, msgspec.msgpack.encode(LogRow(at, format_, request))) for at, request in enumerate(requests, 1)]
    path.write_bytes(freeze(Header("a" * 32, epoch, "b" * 32, 1, START, 1, len(rows), len(rows), 1), rows)[0])
    return path


def test_show_every_operation(place: Place) -> None:
    """One line each; only so many for people."""
    both = AddAssets("a", [asset(1), asset(2)])
    path = unshipped(
        place.root / "x.log", CreateIndex("a"), both, AddAssets("a", [asset(2)]), DeleteAsset("a", 0, key(2)), both, DeleteIndex("a"), both
    )
    lines = [line.split()[2:] for line in place.run("show", path).out.split("\n\n")[1].splitlines()[1:]]
    one, two = lines[1][-1], lines[2][-1]
    assert lines == [
        ["create", "index", "a"],
        *(["add", "a", number] for number in (one, two)),
        ["update", "a", two],
        ["delete", "a", two],
        ["update", "a", one],
        ["add", "a", two],
        ["drop", "index", "a"],
        *(["add", "a", number] for number in (one, two)),
    ]
    many = unshipped(place.root / "y.log", AddAssets("a", [asset(number) for number in range(250)]))
    ran = place.run("show", many)
    assert ran.out.endswith("\nand 150 more: --json has all\n")
    assert len(place.run("show", many, "--json").json["rows"][0]["assets"]) == 250


def test_show_several_files(place: Place) -> None:
    """Those of a process that lost the bucket twice: in the order in which they were written, which is not that of their names."""
    later = unshipped(place.root / "10-12.fenced-2.log", DeleteAsset("a", 0, key(1)), AddAssets("a", [asset(3)]), epoch=3)
    first = unshipped(place.root / "4-5.fenced-1.log", CreateIndex("a"), AddAssets("a", [asset(1), asset(2)]))
    one, two, three = (format_id(0, key(number)) for number in (1, 2, 3))
    ran = place.run("show", later, first)
    assert re.findall(r"^epoch +(\d)$", ran.out, re.MULTILINE) == ["1", "3"]
    assert [line.split()[-1] for line in ran.out.splitlines() if "  add  " in line] == [one, two, three]
    assert [each["path"] for each in place.run("show", later, first, "--json").json] == [str(first), str(later)]
    (adds,) = place.run("show", later, first, "--adds", "a").out.splitlines()
    assert [each["iscc_id"] for each in json.loads(adds)] == [two, three]
    assert place.run("show", later, first, "--deletes", "a").out.split() == [one]
    require_error(place.run("show", first, place.root / "gone.log"), 3, "there is no file")
    require_error(place.run("show", 1, first), 3, "there is no file 1; give a generation, or a file")


def test_show_rows_of_another_version(place: Place) -> None:
    """Are told one by one; what is to be sent again is not told in part."""
    path = unshipped(place.root / "x.log", CreateIndex("a"), format_=99)
    ran = place.run("show", path)
    assert (ran.code, ran.out.splitlines()[-1].split()[2:]) == (4, ["?"])
    assert "row 1 of " in ran.err
    require_error(place.run("show", path, "--adds", "a"), 4, "it has format 99, this version reads")


def test_diff(story: Story) -> None:
    found = story.place.run("diff", 1, 2, "--json").json
    assert (found["sequences"], found["same_lineage"], found["changed"], found["removed"]) == (ROWS // 2, True, [], [])
    assert found["added"][0]["path"] == "data.mdb"
    assert found["new_bytes"] > 0
    ran = story.place.run("diff", 1, 2)
    assert re.search(r"^new +data\.mdb", ran.out, re.MULTILINE)
    require_error(story.place.run("diff", 1, 9), 3, "has no generation 9")


@pytest.mark.parametrize("arguments", [[], ["--full"], ["--sample", "50%"], [2], [2, "--full"]])
def test_verify_of_a_good_bucket(story: Story, arguments: list[object]) -> None:
    before = tree(story.place.bucket)
    ran = story.place.run("verify", *arguments, "--json")
    assert (ran.code, ran.json["problems"], ran.err) == (0, [], "")
    assert ran.json["read_blobs"] >= 1
    assert tree(story.place.bucket) == before


def test_verify_finds_damage(place: Place) -> None:
    """In a blob, in the log, in a manifest: 4, and the object is named on stderr and in the document."""
    filled(place)
    blob = blobs(place.bucket)[0]
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    ran = place.run("verify", "--full")
    assert ran.code == 4
    assert f"blob differs from its digest key=v1/blobs/{blob.parent.name}/{blob.name}" in ran.err
    assert re.search(r"^problems +1$", ran.out, re.MULTILINE)
    log = sorted((place.bucket / "v1" / "log").rglob("*.log"))[1]
    log.unlink()
    found = place.run("verify", "--json")
    assert found.code == 4
    assert found.err.count("\n") == len(found.json["problems"]) >= 2
    (place.bucket / manifest_key(2)).write_bytes(b"{}")
    require_error(place.run("list"), 78, "has format None")
    assert place.run("verify").code == 4


def test_create_without_a_service(place: Place) -> None:
    """The directory is opened, shipped, checkpointed and closed in order."""
    filled(place)
    ran = place.run("create", "--json")
    assert (ran.code, ran.json["kind"], ran.json["base_sequence"]) == (0, "checkpoint", 8)
    assert ran.json["generation"] == max(place.generations())
    assert (place.directory / "clean").exists(), "a stop in order"
    assert not (place.directory / "snapshot").exists()
    text = place.run("create")
    assert re.search(r"^base +request 8, ", text.out, re.MULTILINE)
    assert assets(place.directory) == {2, 3, 6, 7, 8}


def test_create_without_data(place: Place) -> None:
    """Makes no index, and restores none."""
    require_error(place.run("create"), 3, "there is no data in")
    assert not place.bucket.exists()
    assert not place.directory.exists()


def test_create_where_it_does_not_belong(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lineage is refused with 78, and both stay as they are."""
    filled(place)
    place.directory.rename(tmp_path / "moved")
    filled(Place(tmp_path, monkeypatch, SNAPSHOT_URL=(tmp_path / "second").as_uri()))
    before = tree(place.bucket)
    require_error(place.run("create"), 78, "they are not the same index")
    left = {name: found for name, found in tree(place.bucket).items() if name in before}
    assert left == before


def test_drill_without_a_service(place: Place) -> None:
    """A good bucket answers as the index does; a damaged one is found, with 4. Nothing is left of the copy, the result is."""
    filled(place)
    ran = place.run("verify", "--drill", "--json")
    assert (ran.code, ran.json["ok"], ran.json["sequence"]) == (0, True, 8)
    assert ran.json["queries"] >= 1
    assert "the copy answers as the index does" in place.run("verify", "--drill").out
    blob = max(blobs(place.bucket), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"x" * blob.stat().st_size)
    bad = place.run("verify", "--drill", "--json")
    assert (bad.code, bad.json["ok"]) == (4, False)
    assert "differs from its digest" in bad.json["problems"][0]
    assert sorted(path.name for path in place.directory.iterdir() if "drill" in path.name) == []
    assert b'"drill_failures":1' in (place.directory / "chores.json").read_bytes()


def test_doctor(story: Story) -> None:
    """Each check with its result, and what stands under the prefix."""
    ran = story.place.run("doctor")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^race +holds$", ran.out, re.MULTILINE)
    assert re.search(r"^initialised +yes$", ran.out, re.MULTILINE)
    assert re.search(rf"^log ends at +object \d+, request {ROWS}, ", ran.out, re.MULTILINE)
    found = story.place.run("doctor", "--json").json
    assert (found["refusal"], found["warnings"], found["trouble"]) == ("", [], "")
    assert all(check["ok"] for check in found["findings"]["checks"])
    assert (found["condition"]["generation"], found["condition"]["log"]["sequence"]) == (2, ROWS)
    assert found["condition"]["owner"]["epoch"] == 1


def test_doctor_of_what_cannot_be_read(place: Place) -> None:
    """The checks are shown all the same; the exit code is that of the fault."""
    filled(place)
    newest = place.bucket / manifest_key(max(place.generations()))
    newest.write_bytes(newest.read_bytes()[:-9])
    ran = place.run("doctor")
    assert ran.code == 4
    assert "race" in ran.out
    assert "manifest cannot be read" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Missing("x"), 3),
        (Corrupt("x"), 4),
        (Fenced("x"), 5),
        (Diverged(1, LogObject(Header("a", 1, "b", 1, START, 1, 0, 0, 0), [], "", 0)), 5),
        (Unreachable("x"), 6),
        (Refused("x"), 78),
        (Foreign("x"), 78),
        (NoRoom("x"), 1),
        (Damaged("x"), 78),
        (Locked("x"), 1),
        (PermissionError(13, "Permission denied", "/some/file"), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    """By what the caller must do."""

    def fail() -> Told:
        raise error

    told = answered(fail)
    assert (told.code, len(told.problems), told.text) == (code, 1, "")
    assert told.data == Failure(told.problems[0], code)
