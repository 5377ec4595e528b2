import numpy as np
import pytest

from mjoa_gym.model import radio


def test_rates_against_hand_computed_numbers():
    # a quarter of 20 MHz at SNR 3 / 0.25 = 12: 5e6 * log2(13)
    assert radio.uplink_bps(20e6, 0.25, 3.0) == pytest.approx(5e6 * 3.700439718)
    assert radio.downlink_bps(20e6, 0.25, 3.0) == pytest.approx(10e6)  # 5e6 * log2(4)
    assert radio.uplink_bps(20e6, 0.0, 3.0) == radio.downlink_bps(20e6, 0.0, 3.0) == 0.0


def test_link_budget_against_hand_computed_numbers():
    assert radio.from_db(23.0) == pytest.approx(199.526, rel=1e-5)  # mW
    assert radio.noise_dbm(-174.0, 100e6) == pytest.approx(-94.0)
    assert radio.path_loss_db(100.0, 3.0, 43.3) == pytest.approx(103.3)
    # 23 - 103.3 + 94 = 13.7 dB
    assert radio.received_snr(23.0, 103.3, -94.0, 1.0) == pytest.approx(23.442, rel=1e-4)
    assert radio.received_snr(23.0, 103.3, -94.0, 0.5) == pytest.approx(11.721, rel=1e-4)


def test_the_reference_loss_is_that_of_free_space_at_3500_mhz():
    wavelength_m = 299_792_458 / 3.5e9
    assert 20 * np.log10(4 * np.pi / wavelength_m) == pytest.approx(43.3, abs=0.05)


def test_rayleigh_gain_is_exponential_with_mean_one():
    uniform = (np.arange(100_000) + 0.5) / 100_000
    gain = radio.rayleigh_gain(uniform)
    assert gain.mean() == pytest.approx(1.0, abs=1e-3)
    assert np.median(gain) == pytest.approx(np.log(2.0), abs=1e-3)
    assert radio.rayleigh_gain(0.0) == 0.0


def test_distances_are_uniform_over_the_area():
    uniform = (np.arange(100_000) + 0.5) / 100_000
    distance = radio.disc_distance_m(uniform, 10.0, 100.0)
    assert 10.0 <= distance.min() <= distance.max() <= 100.0
    inside = (distance < 50.0).mean()
    assert inside == pytest.approx((50**2 - 10**2) / (100**2 - 10**2), abs=1e-4)


@pytest.mark.parametrize(
    ("step", "turn", "expected"),
    [
        (5.0, 0.0, 55.0),  # straight away
        (5.0, 0.5, 45.0),  # straight towards
        (50.0 * np.sqrt(3.0), 0.25, 100.0),  # to the side: sqrt(50^2 + 3 * 50^2)
        (60.0, 0.0, 90.0),  # 110 is outside: turned back at 100
        (45.0, 0.5, 15.0),  # 5 is too near: turned back at 10
        (1e300, 0.0, 50.0),  # capped at 100: 150 is turned back to 50
        (0.0, 0.3, 50.0),
    ],
)
def test_walks(step, turn, expected):
    assert radio.moved_distance_m(50.0, step, turn, 10.0, 100.0) == pytest.approx(expected)


def test_shadowing_keeps_its_deviation():
    rng = np.random.default_rng(0)
    shadowing = 6.0 * rng.standard_normal(50_000)
    after = radio.next_shadowing_db(shadowing, 0.9, 6.0, rng.standard_normal(50_000))
    assert after.std() == pytest.approx(6.0, rel=0.02)
    assert np.corrcoef(shadowing, after)[0, 1] == pytest.approx(0.9, abs=0.01)
    assert radio.next_shadowing_db(4.0, 1.0, 6.0, 1.7) == 4.0
