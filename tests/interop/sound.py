"""Sound: mu-law, WAV, tones and where they are. Written again for these tests: shared mistakes would cancel out."""

import array
import io
import math
import subprocess
import sys
import wave

RATE = 8000
"""Samples per second of everything here that does not say otherwise."""
SILENCE = 0xFF
"""Mu-law's positive zero."""
FRAME = RATE // 50
"""20 ms, the packet of a telephone line."""


def _decode(byte):
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + 0x84 << (byte >> 4 & 0x07)) - 0x84
    return -magnitude if byte & 0x80 else magnitude


DECODED = [_decode(byte) for byte in range(256)]
"""The sample of each mu-law byte."""


def mulaw_encode(samples):
    """Samples as G.711 mu-law."""
    encoded = bytearray()
    for sample in samples:
        magnitude = min(abs(sample), 32635) + 0x84
        segment = magnitude.bit_length() - 8
        encoded.append(~((0x80 if sample < 0 else 0) | segment << 4 | magnitude >> segment + 3 & 0x0F) & 0xFF)
    return bytes(encoded)


def mulaw_decode(data):
    """G.711 mu-law as samples."""
    return [DECODED[byte] for byte in data]


def silence(seconds):
    """Mu-law silence."""
    return bytes([SILENCE]) * round(seconds * RATE)


def tone(hertz, seconds, amplitude=8000):
    """A mu-law tone."""
    return mulaw_encode(tone_samples(hertz, seconds, amplitude))


def tone_samples(hertz, seconds, amplitude=8000, rate=RATE):
    """A tone before it is encoded."""
    step = 2 * math.pi * hertz / rate
    return [round(amplitude * math.sin(step * n)) for n in range(round(seconds * rate))]


def speak(text, voice="kal16"):
    """A sentence as a telephone hears it, in mu-law, without silence around it. `kal16` speaks at 16 kHz."""
    spoken = subprocess.run(
        ["flite", "-voice", voice, "-t", text, "-o", "/dev/stdout"], check=True, capture_output=True, timeout=20
    )
    samples, rate = read_wav(spoken.stdout)[:2]
    assert rate == 2 * RATE, f"flite speaks at {rate} Hz"
    return mulaw_encode([sample // 2 for sample in _halve(samples[0])])


def speak_samples(text, rate, voice="kal16"):
    """A sentence before it is encoded, at 48 kHz or 8 kHz."""
    if rate == RATE:
        return mulaw_decode(speak(text, voice))
    spoken = subprocess.run(
        ["flite", "-voice", voice, "-t", text, "-o", "/dev/stdout"], check=True, capture_output=True, timeout=20
    )
    samples, found = read_wav(spoken.stdout)[:2]
    assert 3 * found == rate, f"flite speaks at {found} Hz"
    # Straight lines between the samples: what they add is above what a telephone carries.
    low = [sample // 2 for sample in samples[0]]
    return [(2 - n) * a // 3 + (n + 1) * b // 3 for a, b in zip(low, low[1:]) for n in range(3)]


def _halve(samples):
    """Every second sample, after a low pass of 47 taps at 3.6 kHz."""
    taps = [
        (0.54 + 0.46 * math.cos(math.pi * n / 23)) * (0.45 if n == 0 else math.sin(math.pi * n * 0.45) / (math.pi * n))
        for n in range(-23, 24)
    ]
    padded = [0] * 23 + list(samples) + [0] * 24
    return [round(sum(map(float.__mul__, taps, map(float, padded[n : n + 47])))) for n in range(0, len(samples), 2)]


def read_wav(data):
    """The channels and the rate of a 16-bit WAV file, from its bytes or its path."""
    with wave.open(io.BytesIO(data) if isinstance(data, bytes) else str(data)) as file:
        assert file.getsampwidth() == 2
        samples = array.array("h", file.readframes(file.getnframes()))
        if sys.byteorder == "big":
            samples.byteswap()
        return [samples[channel :: file.getnchannels()] for channel in range(file.getnchannels())], file.getframerate()


def write_wav(path, mulaw):
    """A mono file of mu-law audio, as 16-bit samples."""
    write_samples(path, mulaw_decode(mulaw))


def write_samples(path, samples, rate=RATE, channels=1):
    """A file of 16-bit samples, the same on every channel."""
    frames = array.array("h", [sample for sample in samples for _ in range(channels)])
    if sys.byteorder == "big":
        frames.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(frames.tobytes())


def loudness(samples):
    """The root mean square."""
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples)) if samples else 0.0


def tones(samples, known):
    """What is heard of the known tones, in order: (hertz, seconds). Goertzel's filter over windows of 50 ms.

    A window belongs to the tone that holds most of its energy; the windows at a tone's edges may belong to none, so
    lengths are true to 100 ms. A tone that comes again within 300 ms has not ended: so long may a busy machine stall its
    sender.
    """
    window = RATE // 20
    joined = 6
    heard = []
    gap = joined
    for start in range(0, len(samples) - window + 1, window):
        piece = samples[start : start + window]
        energy = sum(sample * sample for sample in piece)
        hertz = None
        if energy > 500**2 * window:
            strongest = max(known, key=lambda hertz: _goertzel(piece, hertz))
            if _goertzel(piece, strongest) > 0.7 * energy:
                hertz = strongest
        if hertz is None:
            gap += 1
        elif heard and hertz == heard[-1][0] and gap < joined:
            heard[-1][1] += window / RATE
            gap = 0
        else:
            heard.append([hertz, window / RATE])
            gap = 0
    return [(hertz, seconds) for hertz, seconds in heard if seconds >= 0.1]


def _goertzel(piece, hertz):
    """The energy of a piece at one frequency: all of it for a pure tone."""
    factor = 2 * math.cos(2 * math.pi * hertz / RATE)
    before = last = 0.0
    for sample in piece:
        before, last = last, sample + factor * last - before
    return (before * before + last * last - factor * before * last) * 2 / len(piece)
