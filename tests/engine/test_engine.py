"""The engine as the service uses it: what is stored, what is found, with which score, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from service.engine.engine import Engine
from service.engine.errors import Conflict, Defect, Invalid, NoSpace, NotFound, Unfit
from service.engine.options import Options
from service.engine.requests import (
    AddAssets,
    Asset,
    Body,
    CreateIndex,
    DeleteAsset,
    DeleteIndex,
    Query,
    Raw,
    Simprint,
    Simprints,
    StoredAsset,
)
from tests.engine.building import (
    CONTENT,
    DATA,
    INSTANCE,
    META,
    add,
    asset,
    create,
    do,
    flipped,
    key,
    opened,
    random_units,
    search,
    settle,
    unit,
)

ZERO = bytes(8)


def found(engine: Engine, *units: Raw, limit: int = 10) -> list[tuple[int, float]]:
    return [(int.from_bytes(match.key, "big"), match.score) for match in search(engine, *units, limit=limit).matches]


def test_index_is_created_listed_and_deleted(tmp_path: Path) -> None:
    """A name is free or taken, never both."""
    with opened(tmp_path) as engine:
        create(engine, "b")
        create(engine, "a")
        assert [info.name for info in engine.indexes()] == ["a", "b"]
        assert isinstance(engine.commit([CreateIndex("a")])[0], Conflict)
        do(engine, DeleteIndex("a"))
        assert isinstance(engine.commit([DeleteIndex("a")])[0], NotFound)
        create(engine, "a")
        assert engine.index("a").assets == 0


@pytest.mark.parametrize("name", ["", "x" * 33, "Ä", "a/b", "x\0", "y" * 600, "\udc80"])
def test_impossible_index_name_is_not_found(tmp_path: Path, name: str) -> None:
    """Any text may be asked for."""
    with opened(tmp_path) as engine, pytest.raises(NotFound):
        engine.index(name)


def test_statuses_follow_what_is_known_and_what_came_before(tmp_path: Path) -> None:
    """Created once, updated afterwards, also within one request; the last of two equal ids is stored."""
    with opened(tmp_path) as engine:
        create(engine)
        first, second = unit(META, ZERO), unit(META, bytes([255] * 8))
        assert add(engine, asset(1, first), asset(2, first), asset(1, second)) == [True, True, False]
        assert add(engine, asset(1, second)) == [False]
        assert engine.asset("a", 0, key(1)) == StoredAsset(None, [second], None)
        assert found(engine, second) == [(1, 1.0)]
        assert engine.index("a").assets == 2


def test_repeated_request_changes_nothing(tmp_path: Path) -> None:
    """A batch that is sent twice is harmless and takes no number in the log."""
    with opened(tmp_path) as engine:
        create(engine)
        batch = asset(1, unit(META, ZERO), simprints={"X": [Simprint(Body(ZERO), 0, 1)]})
        add(engine, batch)
        before = engine.stats().sequence
        assert add(engine, batch) == [False]
        assert engine.stats().sequence == before


def test_update_leaves_nothing_of_the_old_content(tmp_path: Path) -> None:
    """A code that an update drops does not find the asset any more; the new one does at once."""
    with opened(tmp_path) as engine:
        create(engine)
        rng = random.Random(1)
        old, new = random_units(rng), random_units(rng)
        add(engine, asset(1, *old))
        add(engine, asset(1, *new))
        for before in old:
            assert found(engine, before) == []
        for now in new:
            assert found(engine, now) == [(1, 1.0)]


def test_deleted_asset_is_gone(tmp_path: Path) -> None:
    """Neither search nor get finds it; a second delete says so."""
    with opened(tmp_path) as engine:
        create(engine)
        units = random_units(random.Random(2))
        add(engine, asset(1, *units, simprints={"X": [Simprint(Body(ZERO), 0, 1)]}))
        do(engine, DeleteAsset("a", 0, key(1)))
        assert found(engine, *units) == []
        with pytest.raises(NotFound, match=r"Asset 'ISCC:MAIAAAAAAAAAAAAB' not found in index"):
            engine.asset("a", 0, key(1))
        assert isinstance(engine.commit([DeleteAsset("a", 0, key(1))])[0], NotFound)
        info = engine.index("a")
        assert (info.assets, info.record_bytes, set(info.type_bytes.values())) == (0, 0, {0})


def test_realm_is_that_of_the_first_asset(tmp_path: Path) -> None:
    """Another realm is refused as a whole request, for adding, getting, deleting and searching."""
    with opened(tmp_path) as engine:
        create(engine)
        answer = engine.commit([AddAssets("a", [asset(1, realm=1), asset(2, realm=0)])])[0]
        assert isinstance(answer, Invalid)
        assert str(answer).startswith("Realm ID mismatch: index has realm=1, but asset 'ISCC:MAIAAAAAAAAAAAAC' has realm=0. All assets")
        add(engine, asset(1, realm=0))
        for call in (
            lambda: engine.asset("a", 1, key(1)),
            lambda: engine.search("a", Query([], {}, 1, key(1)), 10),
            lambda: do(engine, DeleteAsset("a", 1, key(1))),
        ):
            with pytest.raises(Invalid, match="Realm mismatch: ISCC-ID 'ISCC:MEIAAAAAAAAAAAAB' has realm=1, but expected realm=0"):
                call()
        assert engine.index("a").assets == 1


def test_refused_request_takes_no_other_down(tmp_path: Path) -> None:
    """In one group the good requests are stored, the bad one is not, not even in part."""
    with opened(tmp_path) as engine:
        create(engine)
        good, bad = unit(META, ZERO), unit(META, bytes([255] * 8))
        answers = engine.commit(
            [AddAssets("a", [asset(1, good)]), AddAssets("a", [asset(2, bad), asset(3, bad, realm=1)]), AddAssets("a", [asset(4, good)])]
        )
        assert answers[0] == answers[2] == [True]
        assert isinstance(answers[1], Invalid)
        assert found(engine, good) == [(1, 1.0), (4, 1.0)]
        assert found(engine, bad) == []


def test_simprint_of_another_width_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    """The first simprint of a type decides its width, within one request and later."""
    with opened(tmp_path) as engine:
        create(engine)
        narrow, wide = Simprint(Body(bytes(8)), 0, 1), Simprint(Body(bytes(16)), 0, 1)
        answer = engine.commit([AddAssets("a", [asset(1, simprints={"X": [narrow]}), asset(2, simprints={"X": [wide]})])])[0]
        assert isinstance(answer, Unfit)
        assert str(answer).startswith("simprint 0 of type X of asset 'ISCC:MAIAAAAAAAAAAAAC' has 128 bits, the type has 64")
        assert answer.place == (1, "simprints", "X", 0, "simprint")
        assert engine.index("a").assets == 0
        add(engine, asset(1, simprints={"X": [narrow], "Y": [wide]}))
        assert isinstance(engine.commit([AddAssets("a", [asset(2, simprints={"X": [wide]})])])[0], Unfit)


def test_simprints_left_out_stay_and_an_empty_object_removes_them(tmp_path: Path) -> None:
    """Given simprints replace all types."""
    with opened(tmp_path) as engine:
        create(engine)
        one = Simprint(Body(ZERO), 0, 1)
        add(engine, asset(1, simprints={"X": [one], "Y": [one]}))
        add(engine, asset(1, unit(META, ZERO)))
        assert engine.index("a").type_bytes == {"META_NONE_V0": 8, "SIMPRINT_X": 8, "SIMPRINT_Y": 8}
        add(engine, asset(1, unit(META, ZERO), simprints={"Y": [one]}))
        assert engine.index("a").type_bytes == {"META_NONE_V0": 8, "SIMPRINT_X": 0, "SIMPRINT_Y": 8}
        add(engine, asset(1, unit(META, ZERO), simprints={}))
        assert engine.index("a").type_bytes == {"META_NONE_V0": 8, "SIMPRINT_X": 0, "SIMPRINT_Y": 0}


def test_asset_given_as_code_is_found_by_its_units(tmp_path: Path) -> None:
    """A composite code is decomposed on add: META, CONTENT, DATA and INSTANCE of 64 bits each."""
    code = Raw(bytes([0x50, 0x05]) + b"m" * 8 + b"c" * 8 + b"d" * 8 + b"i" * 8)
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, Asset(0, key(1), code, None, None, None))
        for header, letter in ((META, b"m"), (CONTENT, b"c"), (DATA, b"d"), (INSTANCE, b"i")):
            assert found(engine, unit(header, letter * 8)) == [(1, 1.0)]


@pytest.mark.parametrize(("stored", "asked"), [(a, b) for a in (8, 16, 24, 32) for b in (8, 16, 24, 32)])
def test_lengths_are_compared_over_the_shorter(tmp_path: Path, stored: int, asked: int) -> None:
    """NPHD: three bits of the shared part differ, whatever stands behind it."""
    rng = random.Random(stored * 100 + asked)
    shared = min(stored, asked)
    body = rng.randbytes(stored)
    query = flipped(body[:shared], 3) + rng.randbytes(asked - shared)
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(CONTENT, body)))
        similarity = 1 - 3 / (shared * 8)
        assert search(engine, unit(CONTENT, query)).matches[0].types == {"CONTENT_TEXT_V0": similarity}


@pytest.mark.parametrize(("stored", "asked"), [(a, b) for a in (8, 16, 24, 32) for b in (8, 16, 24, 32)])
def test_instance_matches_by_prefix_at_every_length(tmp_path: Path, stored: int, asked: int) -> None:
    """One of the two begins with the other: 1.0; one bit of the shared part differs: nothing."""
    body = random.Random(7).randbytes(32)
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(INSTANCE, body[:stored])))
        assert found(engine, unit(INSTANCE, body[:asked])) == [(1, 1.0)]
        assert found(engine, unit(INSTANCE, flipped(body[:asked], 1))) == []


def test_score_is_the_contracts_formula_over_all_types(tmp_path: Path) -> None:
    """Types below the threshold are shown and do not count."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(META, ZERO), unit(CONTENT, ZERO), unit(DATA, ZERO)))
        answer = search(engine, unit(META, ZERO), unit(CONTENT, flipped(ZERO, 8)), unit(DATA, flipped(ZERO, 17)))
        assert answer.matches[0].types == {"META_NONE_V0": 1.0, "CONTENT_TEXT_V0": 0.875, "DATA_NONE_V0": 0.734375}
        assert answer.matches[0].score == pytest.approx((1 + 0.875**4) / 1.875, abs=1e-12)


def test_threshold_is_inclusive(tmp_path: Path) -> None:
    """0.75 matches, one bit more does not."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(META, ZERO)))
        assert found(engine, unit(META, flipped(ZERO, 16))) == [(1, 0.421875)]
        assert found(engine, unit(META, flipped(ZERO, 17))) == []


def test_best_pair_counts_among_several_units_of_one_type(tmp_path: Path) -> None:
    """All units of an asset and of the query are compared."""
    far = bytes([255] * 8)
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(META, ZERO), unit(META, far)))
        assert found(engine, unit(META, flipped(ZERO, 16)), unit(META, flipped(far, 8))) == [(1, 0.875**3)]


def test_ties_stand_in_the_order_of_ids_and_scores_do_not_depend_on_the_limit(tmp_path: Path) -> None:
    """The first three of a hundred equals are the three lowest ids, with the scores that they have at any limit."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, *(asset(number, unit(META, flipped(ZERO, number % 2))) for number in range(100, 0, -1)))
        everything = found(engine, unit(META, ZERO), limit=1000)
        assert everything == sorted(everything, key=lambda match: (-match[1], match[0]))
        for limit in (1, 3, 50, 51, 99):
            assert found(engine, unit(META, ZERO), limit=limit) == everything[:limit]


def test_search_by_id_returns_as_many_as_asked_without_the_asset_itself(tmp_path: Path) -> None:
    """The asset takes no place among the results."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, *(asset(number, unit(META, ZERO)) for number in range(5)))
        answer = engine.search("a", Query([], {}, 0, key(2)), 3)
        assert [int.from_bytes(match.key, "big") for match in answer.matches] == [0, 1, 3]
        assert answer.asset == StoredAsset(None, [unit(META, ZERO)], None)


def test_candidates_are_bounded_and_the_answer_says_so(tmp_path: Path) -> None:
    """The cut takes the most similar first, then the lowest ids; the scores are complete all the same."""
    with opened(tmp_path, Options(segment_codes=64, disk_free_min_bytes=0, max_candidates=10)) as engine:
        create(engine)
        add(engine, *(asset(number, unit(META, ZERO), unit(DATA, flipped(ZERO, 8))) for number in range(30)))
        add(engine, asset(99, unit(DATA, ZERO)))
        answer = search(engine, unit(META, ZERO), unit(DATA, ZERO), limit=100)
        assert answer.truncated
        both = (1 + 0.875**4) / 1.875
        assert found(engine, unit(META, ZERO), unit(DATA, ZERO), limit=100) == [(number, both) for number in range(10)]
        assert not search(engine, unit(META, flipped(ZERO, 30))).truncated


def test_unknown_types_and_an_empty_index_find_nothing(tmp_path: Path) -> None:
    """No error."""
    with opened(tmp_path) as engine:
        create(engine)
        assert found(engine, unit(META, ZERO)) == []
        add(engine, asset(1, unit(META, ZERO)))
        assert found(engine, unit(CONTENT, ZERO), unit(INSTANCE, ZERO)) == []


def test_deleted_index_is_freed_in_steps_and_its_name_starts_empty(tmp_path: Path) -> None:
    """Nothing of the old index is found under the new one, and its rows and files go."""
    with opened(tmp_path) as engine:
        create(engine)
        rng = random.Random(3)
        units = [random_units(rng) for _ in range(300)]
        add(engine, *(asset(number, *found_units) for number, found_units in enumerate(units)))
        settle(engine)
        assert engine.stats().segments > 0
        do(engine, DeleteIndex("a"), CreateIndex("a"))
        add(engine, asset(1, *units[1]))
        assert found(engine, *units[0]) == []
        settle(engine)
        assert found(engine, *units[1]) == [(1, 1.0)]
        assert list((tmp_path / "live" / "segments").iterdir()) == []
        assert engine.stats().done.keys_purged > 300 * 5


def test_lack_of_room_refuses_the_group_and_reads_go_on(tmp_path: Path) -> None:
    """Nothing is stored; the message names the setting and what to do."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(META, ZERO)))
    with opened(tmp_path, Options(disk_free_min_bytes=1 << 60)) as engine:
        with pytest.raises(NoSpace, match=r"ISCC_SEARCH_DISK_FREE_MIN.*free space"):
            add(engine, asset(2, unit(META, ZERO)))
        assert found(engine, unit(META, ZERO)) == [(1, 1.0)]


def test_full_map_refuses_the_group_and_reads_go_on(tmp_path: Path) -> None:
    """The largest size of the store is lack of space, not the end of the process."""
    options = Options(segment_codes=64, disk_free_min_bytes=0, map_bytes=1 << 20)
    with opened(tmp_path, options) as engine:
        create(engine)
        with pytest.raises(NoSpace, match="largest size"):
            _fill(engine)
        assert len(engine.search("a", Query(random_units(random.Random(4)), {}), 1).matches) == 1


def _fill(engine: Engine) -> None:
    rng = random.Random(4)
    for number in range(100_000):
        add(engine, asset(number, *random_units(rng)))


def test_request_that_meets_a_defect_takes_no_other_down(tmp_path: Path) -> None:
    """What the interface should have refused is undone alone and answered as a defect."""
    with opened(tmp_path) as engine:
        create(engine)
        good, broken = asset(1, unit(META, ZERO)), asset(2, unit(META, ZERO))
        broken = msgspec.structs.replace(broken, simprints={"X": Simprints(7, bytes(15))})
        answers = engine.commit([AddAssets("a", [good]), AddAssets("a", [broken]), AddAssets("a", [asset(3, unit(META, ZERO))])])
        assert answers[0] == answers[2] == [True]
        assert isinstance(answers[1], Defect)
        assert found(engine, unit(META, ZERO)) == [(1, 1.0), (3, 1.0)]


def test_deletes_go_on_when_the_disk_is_nearly_full(tmp_path: Path) -> None:
    """They are what makes room."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, unit(META, ZERO)))
    with opened(tmp_path, Options(disk_free_min_bytes=1 << 60)) as engine:
        refused, gone = engine.commit([AddAssets("a", [asset(2, unit(META, ZERO))]), DeleteAsset("a", 0, key(1))])
        assert isinstance(refused, NoSpace)
        assert gone is None
        assert found(engine, unit(META, ZERO)) == []
