"""Other formats of measured links, as traces."""

import numpy as np
import pytest

from mjoa_gym import Scenario
from mjoa_gym.cli.main import main
from mjoa_gym.world.trace import load_trace
from mjoa_gym.world.trace_formats import Columns, from_mahimahi, from_table

IRISH = """Timestamp,Longitude,DL_bitrate,UL_bitrate,State,PINGAVG
2019.12.16_13.40.04,-8.4,5000,200,D,24
2019.12.16_13.40.04,-8.4,5000,900,D,24
2019.12.16_13.40.05,-8.4,9000,-,D,24
2019.12.16_13.40.06,-8.4,8000,0,D,30
2019.12.16_13.40.09,-8.4,7000,400,D,20
"""
SPEEDTESTS = """Location;Download (Mbps);Upload (Mbps);Ping (ms)
Govan;907,32;192,95;29,75
Partick;600;150;20
"""


def write(path, lines):
    path.write_text("\n".join(map(str, lines)) + "\n")
    return path


def test_mahimahi_counts_packets_of_1500_bytes(tmp_path):
    up = write(tmp_path / "up", [0, 1, 1, 500, 1000, 1001, 2500])
    down = write(tmp_path / "down", ["", 10, 20])
    trace = from_mahimahi(up, down, 1.0, 1e3)
    assert trace[:, 0].tolist() == [0, 1, 2]
    # five packets, one, and one in the half second that is left
    np.testing.assert_allclose(trace[:, 1], [5 * 12e3, 12e3, 12e3 / 0.5])
    np.testing.assert_allclose(trace[:, 2], 1.2e6)  # repeated 125 times: two in 20 ms


def test_mahimahi_repeats_the_shorter_file_from_its_first_line(tmp_path):
    up = write(tmp_path / "up", [0, 30])  # 30 ms are 0 ms of the next repetition
    down = write(tmp_path / "down", [90])
    counts = from_mahimahi(up, down, 0.03, 1.0)[:, 1] * 0.03 / 12e3
    np.testing.assert_allclose(counts, [2, 2, 2])
    counts = from_mahimahi(up, down, 0.02, 1.0)[:, 1] * [0.02, 0.02, 0.02, 0.02, 0.01] / 12e3
    assert counts.sum() == pytest.approx(6)


def test_windows_in_which_nothing_may_leave_get_the_least_rate(tmp_path):
    up = write(tmp_path / "up", [100, 3000])
    assert from_mahimahi(up, up, 1.0, 5e3)[:, 1].tolist() == [12e3, 5e3, 12e3]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1", "two"], "up: line 2: 'two': must be a whole number of milliseconds"),
        (["1", "-2"], "up: line 2: '-2': must be a whole"),
        (["1.5"], "up: line 1: '1.5'"),
        (["5", "3"], "up: line 2: 3: must be at least 5 as before"),
        (["9" * 5000], "up: line 1: '999.*: must be a whole"),
        (["9" * 15], "window_s=1.0: would give 1000000000000 rows; the limit is 1000000"),
        (["0"], "up: ends at 0 ms"),
        ([], "up: ends at 0 ms"),
    ],
)
def test_faults_of_packet_traces_are_named(lines, message, tmp_path):
    up = write(tmp_path / "up", lines)
    with pytest.raises(ValueError, match=message):
        from_mahimahi(up, up, 1.0, 1e3)


def test_a_table_with_times(tmp_path):
    path = tmp_path / "irish.csv"
    path.write_text(IRISH)
    columns = Columns(
        "UL_bitrate", "DL_bitrate", "kbit/s", "Timestamp", "%Y.%m.%d_%H.%M.%S", ping="PINGAVG"
    )
    trace, left_out = from_table(path, columns, 1e5)
    assert left_out == 2  # one repeats its second, one has no uplink
    np.testing.assert_allclose(
        trace, [[0, 2e5, 5e6, 0.012], [2, 1e5, 8e6, 0.015], [5, 4e5, 7e6, 0.01]]
    )


def test_a_table_without_times(tmp_path):
    path = tmp_path / "tests.csv"
    path.write_text(SPEEDTESTS)
    columns = Columns("Upload (Mbps)", "Download (Mbps)", every_s=30.0)
    trace, left_out = from_table(path, columns, 1e5)
    assert left_out == 0
    np.testing.assert_allclose(trace, [[0, 192.95e6, 907.32e6], [30, 150e6, 600e6]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns("up", "Download (Mbps)"), "'up' is missing"),
        (Columns("Location", "Ping (ms)"), "line 2: Location='Govan': must be a number"),
        (Columns("Ping (ms)", "Ping (ms)", "MB/s"), "unit='MB/s': allowed are"),
        (Columns("Ping (ms)", "Ping (ms)", every_s=0), "every_s=0: must be above 0"),
        (
            Columns("Ping (ms)", "Ping (ms)", time="Location", time_format="%H"),
            "line 2: Location='Govan': time data",
        ),
    ],
)
def test_faults_of_tables_are_named(columns, message, tmp_path):
    path = tmp_path / "tests.csv"
    path.write_text(SPEEDTESTS)
    with pytest.raises(ValueError) as error:
        from_table(path, columns, 1e5)
    assert message in str(error.value)


def test_a_table_in_which_nothing_was_measured(tmp_path):
    path = write(tmp_path / "a.csv", ["up,down", "-,1"])
    with pytest.raises(ValueError, match="no row in which everything was measured"):
        from_table(path, Columns("up", "down"), 1e5)


def test_the_command_writes_what_a_scenario_takes(tmp_path, capsys):
    source, out = tmp_path / "tests.csv", tmp_path / "new" / "mine.csv"
    source.write_text(SPEEDTESTS)
    names = ["--uplink-column", "Upload (Mbps)", "--downlink-column", "Download (Mbps)"]
    command = ["trace", "table", str(source), *names, "--ping-column", "Ping (ms)"]
    assert main([*command, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "2 rows, 2 s; 0 rows left out" in told
    assert "171.5 Mbit/s up, 753.7 Mbit/s down, 12.4 ms per message" in told
    assert Scenario(trace=str(out)).link_limits[1].tolist() == [192.95e6, 907.32e6, 0.014875]
    up = write(tmp_path / "up", [1, 2, 3])
    assert main(["trace", "mahimahi", str(up), str(up), "--out", str(out)]) == 0
    assert "per message" not in capsys.readouterr().out
    assert load_trace(str(out), 0.0)[0].tolist() == [0, 12e6, 12e6, 0]
    assert main(["trace", "mahimahi", str(up), str(up), "--out", "mine.txt"]) == 1
    assert "out='mine.txt': must end in .csv or .tsv" in capsys.readouterr().err
