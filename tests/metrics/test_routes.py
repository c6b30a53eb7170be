import pytest

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig
from cfworld.metrics.controls import make_control
from cfworld.metrics.judgement import Judgement
from cfworld.metrics.recordings import FIRST_SEED
from cfworld.metrics.rollouts import WorldLike
from cfworld.metrics.routes import RecallConfig, prefix_ticks, run_recall
from cfworld.metrics.turning import TURNS
from tests.metrics.fakes import LONG, PANORAMA, Remembering
from tests.toy import toy_world

AWAY = [6.4, 9.6, 12.8]


def drive(worlds: dict[str, WorldLike], baselines: tuple[str, ...] = (), **settings: object) -> Judgement:
    config = RecallConfig(**({"away": AWAY, "full_turn": False, "starts": 2, "strips": 1} | settings))  # pyright: ignore[reportArgumentType]
    return run_recall(worlds, PanoramaTwin(max_ticks=LONG), PANORAMA, config, FIRST_SEED, baselines=baselines)


@pytest.fixture(scope="module")
def judged() -> Judgement:
    perfect = Remembering()
    worlds: dict[str, WorldLike] = {"perfect": perfect, "five seconds": Remembering(5.0), "none": Remembering(0.0)}
    worlds |= {name: make_control(name, perfect) for name in ("freeze", "loop", "shuffled", "blur")}
    return drive(worlds, full_turn=True)


def context(judged: Judgement, by: str = "") -> dict[str, float]:
    return judged.figures[f"effective_context_seconds{by}"]


def test_a_perfect_oracle_reaches_the_largest_time(judged: Judgement):
    assert context(judged)["perfect"] == context(judged, "_by_psnr")["perfect"] == max(AWAY)
    figures = judged.figures["routes"]["away for 12.8 s"]["perfect"]
    assert figures["recalled"].mean == 1
    assert figures["psnr"].mean == 60
    assert figures["psnr_departed"].mean == 60  # the camera is back at the same pose
    assert judged.figures["routes"]["full turn"]["perfect"]["recalled"].mean == 1


def test_an_oracle_without_memory_reaches_none(judged: Judgement):
    assert context(judged)["none"] == context(judged, "_by_psnr")["none"] == 0


def test_an_oracle_that_remembers_five_seconds_reaches_the_last_time_below(judged: Judgement):
    assert context(judged)["five seconds"] == 6.4
    assert judged.bars["five seconds"]["recalls the view after away for 6.4 s"] is True
    assert judged.bars["five seconds"]["recalls the view after away for 9.6 s"] is False


@pytest.mark.parametrize("name", ["freeze", "loop", "shuffled"])
def test_a_world_that_did_not_leave_as_driven_has_not_returned(judged: Judgement, name: str):
    assert set(judged.bars[name].values()) == {False}
    assert context(judged)[name] == context(judged, "_by_psnr")[name] == 0


def test_standing_still_shows_the_right_view_and_still_does_not_count(judged: Judgement):
    figures = judged.figures["routes"]["full turn"]["freeze"]
    assert figures["psnr"].mean == 60
    assert figures["recalled"].mean == figures["moved"].mean == 0


def test_blur_fails_the_bars_of_showing_the_view(judged: Judgement):
    shows = [passed for bar, passed in judged.bars["blur"].items() if bar.startswith("shows the view")]
    assert shows == [False] * (len(AWAY) + 1)
    assert context(judged, "_by_psnr")["blur"] == 0


def test_the_heading_on_return_is_read_off_the_frames(judged: Judgement):
    found = judged.figures["headings"]["away for 12.8 s"]
    assert found["perfect"]["error"].mean == found["freeze"]["error"].mean == 0
    assert found["shuffled"]["error"].mean > 0


def test_the_report_shows_a_plot_and_film_strips(judged: Judgement, tmp_path):
    for picture in judged.pictures:
        picture.write(tmp_path / picture.name)
    assert {path.name for path in tmp_path.iterdir()} == {
        "recall.png",
        "recall_0.png",
        "recall_away_for_12.8_s.png",
        "heading.png",
    }


def test_a_world_is_set_against_the_best_of_its_baselines():
    short, none = "baseline four seconds", "baseline none"
    worlds: dict[str, WorldLike] = {"perfect": Remembering(), short: Remembering(4.0), none: Remembering(0.0)}
    judged = drive(worlds, (short, none), away=[9.6, 12.8])
    assert judged.bars["perfect"][f"beats {short} at every time away of 2 s or more"] is True
    assert judged.bars["perfect"][f"beats {none} at every time away of 2 s or more"] is True
    assert judged.figures["advantages"]["perfect"][none]["away for 9.6 s"]["recalled"].mean > 0
    assert not any("beats" in bar for bar in judged.bars[short])


def test_a_baseline_that_is_as_good_is_not_beaten():
    judged = drive({"world": Remembering(), "baseline": Remembering()}, ("baseline",), away=[6.4], starts=2)
    assert judged.bars["world"]["beats baseline at every time away of 2 s or more"] is False


def test_promotions_while_away_are_counted():
    world = toy_world()  # its threshold lies above 1: every other chunk is promoted
    never = toy_world(memory=MemoryConfig(num_sink=1, num_slow=2, num_fast=4, consolidate_every=2, threshold=-1.1))
    judged = drive({"world": world, "never": never}, away=[1.6], starts=2)
    figures = judged.figures["routes"]["away for 1.6 s"]
    assert figures["world"]["promoted"].mean == 1
    assert figures["never"]["promoted"].mean == 0


def test_the_view_that_is_left_is_out_of_the_sight_of_every_sink():
    turn = TURNS[PANORAMA]
    small = toy_world(memory=MemoryConfig(num_sink=1, num_slow=0, num_fast=2))
    large = toy_world(memory=MemoryConfig(num_sink=2, num_slow=0, num_fast=20))
    assert prefix_ticks({"small": small}, turn) == 4 + turn.hidden
    assert prefix_ticks({"small": small, "large": large}, turn) == 4 * (2 + 19 + 1)


def test_a_world_may_have_seen_everything_before_the_view_is_left():
    turn = TURNS[PANORAMA]
    assert prefix_ticks({"toy": toy_world()}, turn, real_turns=1.0) == turn.ticks
    judged = drive({"perfect": Remembering()}, away=[1.6], real_turns=1.0)
    assert judged.bars["perfect"]["recalls the view after away for 1.6 s"]
    assert judged.figures["seen_seconds"] == turn.ticks / 10


def test_a_world_may_have_seen_a_part_of_a_turn():
    """Of 128 ticks, in whole steps; a world is never shown less than fills its sink and fast memory."""
    turn = TURNS[PANORAMA]
    assert [prefix_ticks({"toy": toy_world()}, turn, real_turns=part) for part in (0.01, 0.75, 0.76)] == [
        4 + turn.hidden,
        96,
        100,
    ]


def test_where_the_way_is_real_a_world_generates_only_what_renews_its_view():
    perfect = Remembering()
    worlds = {"perfect": perfect, "five seconds": Remembering(5.0), "freeze": make_control("freeze", perfect)}
    judged = drive(worlds, away=[1.6, 6.4, 12.8], real_away=True)
    routes = judged.figures["routes"]
    assert [routes[f"away for {d} s"]["perfect"]["recalled"].mean for d in (1.6, 6.4, 12.8)] == [1, 1, 1]
    assert [routes[f"away for {d} s"]["five seconds"]["recalled"].mean for d in (1.6, 6.4, 12.8)] == [1, 1, 0]
    assert routes["away for 12.8 s"]["freeze"]["moved"].mean == 0, "what it was shown is no merit of its own"


def test_a_world_is_shown_whole_steps():
    chunk = MemoryConfig(num_sink=1, num_slow=2, num_fast=6, latents_per_chunk=3)
    judged = drive({"toy": toy_world(memory=chunk, prefix_latents=3)}, away=[7.2], starts=1, real_away=True)
    assert set(judged.figures["routes"]) == {"away for 7.2 s"}, "six steps of 12 ticks, of which 32 are its own"


@pytest.mark.parametrize(
    "settings", [{"away": [0.0]}, {"away": [], "full_turn": False}, {"starts": 0}, {"real_turns": -1.0}]
)
def test_settings_that_measure_nothing_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="recall has"):
        RecallConfig(**settings)


def test_a_rest_counts_as_time_away():
    judged = drive({"perfect": Remembering(), "five seconds": Remembering(5.0)}, away=[6.4], still=3.2, full_turn=True)
    assert list(judged.figures["routes"]) == ["away for 9.6 s", "full turn"]
    assert judged.figures["routes"]["away for 9.6 s"]["perfect"]["recalled"].mean == 1
    assert judged.figures["routes"]["away for 9.6 s"]["five seconds"]["recalled"].mean < 1


def test_standing_still_through_a_long_rest_does_not_count():
    perfect = Remembering()
    judged = drive({"perfect": perfect, "freeze": make_control("freeze", perfect)}, away=[6.4], still=25.6)
    figures = judged.figures["routes"]["away for 32 s"]
    assert figures["perfect"]["moved"].mean == figures["perfect"]["recalled"].mean == 1
    assert figures["freeze"]["psnr"].mean == 60
    assert figures["freeze"]["moved"].mean == figures["freeze"]["recalled"].mean == 0


def test_a_rest_of_less_than_a_step_is_refused():
    with pytest.raises(ConfigError, match=r"still=0\.1; expected at least a step, 0\.4 s"):
        drive({"perfect": Remembering()}, still=0.1)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["still", "real_turns"])
def test_times_below_nothing_are_refused(name: str, wrong: float):
    with pytest.raises(ConfigError, match=f"{name}={wrong}; expected 0 or more"):
        RecallConfig(**{name: wrong})  # pyright: ignore[reportArgumentType]
