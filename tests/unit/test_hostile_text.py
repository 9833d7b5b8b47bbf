"""No text takes quadratic time: Python holds its global lock while it matches, and all tabs wait."""

import time

import pytest

from tests.hostile_text import NO_READERS, READERS, SHAPES, cpu_seconds, readers_in_code

SMALL, LARGE = 20_000, 40_000  # bytes
LEAST_SECONDS = 0.005  # a shorter time cannot be measured
MOST = 2.5  # the highest ratio for twice the text; quadratic time gives four
# the ratio for four times the text where a linear and a quadratic part give MOST for twice the text
MOST_OF_FOUR = 5.7
ROUNDS = 20  # the most attempts, because other work may slow many of them
PAUSE = 0.05  # seconds; attempts in a row would all be slowed by the same work


def test_table_names_every_reader_of_text():
    in_code = set(readers_in_code())

    assert in_code <= READERS.keys() | NO_READERS.keys()
    assert in_code >= NO_READERS.keys()  # the table has no row of a function that is gone


@pytest.mark.parametrize("size", [SMALL, LARGE, 200_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_as_long_as_they_say(shape, size):
    assert 0.95 * size <= len(SHAPES[shape](size).encode(errors="surrogatepass")) <= size


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_twice_the_text_takes_twice_the_time(name):
    reader = READERS[name]
    slow = {shape: ratio for shape in SHAPES if (ratio := growth(reader, SHAPES[shape])) > MOST}

    assert not slow


def growth(reader, shape):
    """Return how many times as long the larger text takes; 0 if its time is too short to measure, or in proportion to a quarter of it.

    The best of three, and of more if other work on the machine may have slowed the larger text alone; none is read on once its
    time is short enough. The smaller one is then read twice in a row, because a short time falls between the other work more
    easily than a long one.
    """
    small, large = shape(SMALL), shape(LARGE)
    of_small, of_large = [], [cpu_seconds(reader, large)]
    if of_large[0] < LEAST_SECONDS:
        return 0
    quarter = shape(LARGE // 4)
    if of_large[0] <= MOST_OF_FOUR * min(cpu_seconds(reader, quarter) for _ in range(2)):
        return 0
    for attempt in range(1, ROUNDS + 1):
        in_a_row = 1 if attempt == 1 else LARGE // SMALL
        of_small += [cpu_seconds(reader, small, in_a_row) for _ in range(3)]
        while (ratio := min(of_large) / min(of_small)) > MOST and len(of_large) < 3 * attempt:
            of_large.append(cpu_seconds(reader, large))
        if ratio <= MOST:
            break
        time.sleep(PAUSE * attempt)
    return ratio if min(of_large) >= LEAST_SECONDS else 0
