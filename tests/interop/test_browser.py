"""Chromium opens the phone page of `tandem serve` and calls, by hand and by voice; both ends are listened to."""

import array
import base64
import json
import os
import shutil
import signal
import subprocess
import threading
import urllib.request

import pytest

import sound
from conftest import OUT
from conftest import clean_environment
from conftest import found
from conftest import need
from conftest import run_programs
from gateway import TONES
from gateway import Gateway
from gateway import free_ports
from gateway import until
from google_agent import GOODBYE
from google_agent import GREETING
from tone_agent import ANSWER
from tone_agent import KNOWN
from tone_agent import ToneAgent

need("chromium", "chromium")
need("node", "nodejs")
need("npm", "npm")
need("flite", "flite")

HERE = os.path.join(os.path.dirname(__file__), "browser")
FOLDER = OUT / "browser"
"""Where the driver and its package are: Node looks for packages beside the file that wants them."""
PHONE, DESKTOP = (390, 844), (1280, 800)
COMMAND_TIMEOUT = 30
"""Seconds for a command to the browser; its own limits are shorter."""

SWITCHES = [
    # These tests also run as root in a container, where Chromium's sandbox cannot.
    "--no-sandbox",
    # No network is needed: the gateway is on this machine.
    "--allow-loopback-in-peer-connection",
    "--disable-gpu",
]
FAKE_MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

BISTRO = """
kind = "local"
name = "projects/interop/locations/global/agents/bistro"
"""
WEBRTC = """
[webrtc]
listen = "127.0.0.1:{port}"
{webrtc}
{routes}
"""
ROUTE = """
[[routes]]
name = "{name}"
ingress = "whip"
to = "{name}"
agent = "agent"
"""
WATCH_THE_END = """
window.heardOn = new Promise((resolve) => {
  let ended;
  const look = setInterval(() => {
    if (document.body.dataset.state === "idle") ended ??= performance.now();
    if (ended === undefined || document.getElementById("speaker").srcObject) return;
    clearInterval(look);
    resolve(performance.now() - ended);
  }, 5);
}), null
"""
"""Makes the page find out for how many milliseconds it plays on when the call is over."""
TOKEN, OTHER_TOKEN = "the-token-of-support", "the-token-of-sales"


class WhipGateway(Gateway):
    """A gateway with the phone page and these routes."""

    def __init__(self, start, folder, name, agent, routes=("support",), webrtc="", more="", **environment):
        (port,) = free_ports(1)
        routes = "".join(ROUTE.format(name=route) for route in routes)
        more = WEBRTC.format(port=port, webrtc=webrtc, routes=routes) + more
        super().__init__(start, folder, name, agent, webrtc="", more=more, **environment)
        self.page = f"http://127.0.0.1:{self.http}/"

    def ended(self, reason):
        """How many WHIP calls have ended for this reason."""
        return sum(
            count
            for labels, count in self.metrics("tandem_calls_total").items()
            if 'ingress="whip"' in labels and f'"{reason}"' in labels
        )

    def is_clean(self):
        """Whether nothing of a call is left."""
        return not self.calls() and not self.alive() and self.total("tandem_calls_active") == 0


class Browser:
    """A Chromium whose microphone is a WAV file, or nothing."""

    def __init__(self, name, microphone=None, switches=()):
        if microphone is not None:
            switches = [*FAKE_MICROPHONE, f"--use-file-for-fake-audio-capture={microphone}", *switches]
        log = OUT / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as log:
            self.node = subprocess.Popen(
                [found("node"), FOLDER / "phone.mjs", found("chromium"), *SWITCHES, *switches],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=FOLDER,
                env=clean_environment(),
            )

    def __getattr__(self, command):
        """Every command of phone.mjs is a method."""

        def run(*parameters):
            # A browser that hangs is ended, and then its answer is the end of the file.
            alarm = threading.Timer(COMMAND_TIMEOUT, self.node.kill)
            alarm.start()
            try:
                self.node.stdin.write(json.dumps([command, *parameters]) + "\n")
                self.node.stdin.flush()
                line = self.node.stdout.readline()
            finally:
                alarm.cancel()
            assert line, f"the browser ended, or did not answer {command} for {COMMAND_TIMEOUT} s"
            answer = json.loads(line)
            assert "error" not in answer, answer["error"]
            return answer["result"]

        return run

    def close(self):
        if self.node.poll() is None:
            self.node.stdin.close()
            try:
                self.node.wait(10)
            except subprocess.TimeoutExpired:
                # Chromium ends with the pipe to it.
                self.node.kill()
                self.node.wait()

    def call(self):
        """Calls, and waits until there is a call."""
        self.click("#call")
        self.until("the call is connected", lambda seen: seen["status"] == "Connected" and seen["clock"])

    def until(self, words, condition, patience=10):
        """Waits until what is seen is so, and returns it."""
        last = {}

        def look():
            last.update(self.seen())
            return condition(last)

        try:
            until(look, words, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}; instead: {last}") from None
        return last

    def until_status(self, status, problem="", patience=10):
        return self.until(
            f"it says {status!r} {problem!r}",
            lambda seen: seen["status"] == status and problem in seen["problem"] and bool(problem) == bool(seen["problem"]),
            patience,
        )

    def heard(self):
        """The samples that the last call has received, at 8 kHz, and its events."""
        received = self.received()
        return array.array("h", base64.b64decode(received["audio"])), received["events"]


@pytest.fixture(scope="module", autouse=True)
def driver():
    """The driver with its package, as the lock file has it. Installed once, and anew when that changes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = os.path.join(HERE, "package-lock.json")
    stamp = FOLDER / "installed.json"
    for file in ["package.json", "package-lock.json", "phone.mjs", "eavesdrop.mjs"]:
        shutil.copy(os.path.join(HERE, file), FOLDER)
    with open(wanted) as lock:
        lock = lock.read()
    if stamp.exists() and stamp.read_text() == lock:
        return
    command = [found("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install playwright-core within 120 s")
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        pytest.skip(f"npm cannot install playwright-core: {words[-1] if words else done.returncode}")
    stamp.write_text(lock)


@pytest.fixture(scope="module")
def start_for_module():
    yield from run_programs()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def bistro(start_for_module, folder):
    # As it is without these tests: the recogniser hears all that Opus carries.
    return WhipGateway(start_for_module, folder, "gateway-bistro", BISTRO, TANDEM__AUDIO__UPLINK="auto")


@pytest.fixture(scope="module")
def agent():
    with ToneAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def toned(start_for_module, folder, agent):
    agent = TONES.format(port=agent.port)
    return WhipGateway(start_for_module, folder, "gateway-toned", agent, webrtc='parameters = ["customer"]')


@pytest.fixture(scope="module")
def silence(folder):
    """A microphone in a quiet room."""
    path = folder / "silence.wav"
    write_microphone(path, 5)
    return path


@pytest.fixture
def browser(request):
    """Opens browsers, and ends them. A test that ends well leaves no complaint."""
    opened = []

    def open_browser(gateway, microphone=None, switches=(), complaints=(), address="", size=PHONE, **options):
        browser = Browser(f"{request.node.name}-{len(opened)}", microphone, switches)
        opened.append((browser, complaints))
        width, height = size
        browser.open(gateway.page + address, {"viewport": {"width": width, "height": height}, **options})
        return browser

    yield open_browser
    complained = []
    for browser, expected in opened:
        if browser.node.poll() is None:
            # Chromium itself reports every refused request.
            complained += [each for each in browser.complaints() if not any(known in each for known in expected)]
        browser.close()
    assert complained == []


def write_microphone(path, *script):
    """A file that is silent for so many seconds and says so many sentences, as `script` has them."""
    samples = []
    for each in script:
        if isinstance(each, str):
            spoken = subprocess.run(
                ["flite", "-voice", "slt", "-t", each, "-o", "/dev/stdout"], check=True, capture_output=True, timeout=20
            )
            (said, *_), rate = sound.read_wav(spoken.stdout)
            assert rate == 16000
            samples += said
        else:
            samples += [0] * round(each * 16000)
    sound.write_samples(path, samples, 16000)


def said(seen, who):
    return [line["words"] for line in seen["lines"] if line["who"] == who]


def test_a_table_is_booked_by_voice(browser, bistro, folder):
    microphone = folder / "booking.wav"
    # The first sentence interrupts the welcome.
    write_microphone(microphone, 3, "book a table for two", 6, "tomorrow", 7, "yes please", 11, "no thank you", 30)
    phone = browser(bistro, microphone)
    phone.screenshot(str(OUT / "phone-page-idle.png"))
    phone.call()
    phone.until("the caller's level is shown", lambda seen: seen["levels"][0] > 0.2)
    phone.until("words are shown while they are spoken", lambda seen: seen["interim"])
    seen = phone.until("the table is confirmed", lambda seen: any("is confirmed" in each for each in said(seen, "agent")), 40)
    phone.screenshot(str(OUT / "phone-page-390x844.png"))
    phone.resize(*DESKTOP)
    phone.screenshot(str(OUT / "phone-page-1280x800.png"))
    phone.until_status("The agent ended the call", patience=30)

    seen = phone.seen()
    assert said(seen, "caller") == ["book a table for two", "tomorrow", "yes please", "no thank you"]
    agent = said(seen, "agent")
    assert agent[0].startswith("Welcome to Tandem Bistro")
    assert "A table for 2. For which day?" in agent
    assert agent[-1].endswith("Goodbye.")
    marks = [mark for line in seen["lines"] for mark in line["marks"]]
    assert marks[0].startswith("interrupted after "), marks
    delays = [mark for mark in marks if mark.startswith("after ")]
    assert len(delays) == 4, "every utterance has an answer, and every answer its delay"

    # What was heard is where the events say: the welcome until it was interrupted, then nothing before the answer.
    audio, events = phone.heard()
    at = {event["type"]: event["sample"] for event in reversed(events)}
    assert sound.loudness(audio[max(0, at["barge_in"] - 2 * sound.RATE) : at["barge_in"]]) > 500
    cut, answered = at["barge_in"] + sound.RATE // 2, at["turn_latency"] - sound.RATE // 4
    assert answered - cut > sound.RATE // 4, "there is a pause to listen to"
    assert sound.loudness(audio[cut:answered]) < 50
    assert sound.loudness(audio[at["turn_latency"] : at["turn_latency"] + 2 * sound.RATE]) > 500
    until(bistro.is_clean, "nothing is left of the call")
    assert bistro.ended("agent_ended") == 1


def test_tones_are_heard_and_keys_arrive_from_pad_and_keyboard(browser, toned, agent, folder):
    microphone = folder / "hello.wav"
    write_microphone(microphone, 3.5, "hello there", 60)
    phone = browser(toned, microphone, address="?customer=17&else=18", size=DESKTOP, colorScheme="dark")
    phone.call()
    phone.until("the agent has answered speech", lambda seen: "I heard you." in said(seen, "agent"), 20)
    phone.evaluate("new Promise((resolve) => setTimeout(resolve, 1500))")
    phone.key("4")
    phone.key("2")
    phone.until("the agent has answered keys", lambda seen: "As you wish." in said(seen, "agent"))
    phone.evaluate("new Promise((resolve) => setTimeout(resolve, 1500))")
    phone.click("#keypad [data-key='9']")
    phone.until_status("The agent ended the call")
    seen = phone.seen()
    assert said(seen, "keys") == ["42", "9"]
    assert said(seen, "agent") == ["Hello.", "I heard you.", "As you wish.", "As you wish."]
    assert [query.dtmf.digits for stream in agent.streams for query in [stream.first.query_input] if "dtmf" in query] == ["42", "9"]
    parameters = agent.streams[0].first.query_params.parameters
    assert parameters["customer"] == "17" and "else" not in parameters, "what the page's address says reaches the agent"
    tones = [hertz for hertz, _ in sound.tones(phone.heard()[0], KNOWN)]
    assert tones == [GREETING, ANSWER, GOODBYE, GOODBYE]
    until(toned.is_clean, "nothing is left of the call")


def test_a_call_is_made_by_keyboard_alone(browser, bistro, silence):
    phone = browser(bistro, silence, size=DESKTOP)
    before = bistro.ended("caller_hung_up")
    tab_to(phone, "call")
    phone.key("Enter")
    phone.until("the call is connected", lambda seen: seen["clock"])
    phone.until("the agent is heard", lambda seen: seen["levels"][1] > 0.3)
    tab_to(phone, "mute")
    phone.key("Space")
    assert phone.evaluate("document.querySelector('#mute').ariaPressed") == "true"
    phone.key("2")
    phone.until("the agent takes the key", lambda seen: any("open every day" in each for each in said(seen, "agent")))
    tab_to(phone, "hang-up")
    phone.key("Enter")
    phone.until_status("You hung up")
    assert phone.seen()["focus"] == "call", "the next call is one key away"
    until(bistro.is_clean, "nothing is left of the call")
    assert bistro.ended("caller_hung_up") == before + 1


def tab_to(phone, field):
    for _ in range(30):
        if phone.seen()["focus"] == field:
            return
        phone.key("Tab")
    raise AssertionError(f"Tab does not lead to {field}")


def test_whoever_leaves_the_page_hangs_up(browser, bistro, silence):
    phone = browser(bistro, silence)
    before = bistro.ended("caller_hung_up")
    phone.call()
    phone.leave()
    until(bistro.is_clean, "nothing is left of the call", patience=5)
    assert bistro.ended("caller_hung_up") == before + 1


def test_a_caller_is_told_that_an_operator_has_ended_the_call(browser, bistro, silence):
    phone = browser(bistro, silence)
    phone.call()
    (call,) = bistro.calls()
    request = urllib.request.Request(f"http://127.0.0.1:{bistro.admin}/v1/calls/{call['id']}", method="DELETE")
    phone.evaluate(WATCH_THE_END)
    urllib.request.urlopen(request, timeout=5)
    phone.until_status("Call ended", "An operator ended the call.")
    # The browser holds some of what was said last.
    assert 300 < phone.evaluate("window.heardOn") < 2_000
    until(bistro.is_clean, "nothing is left of the call")
    phone.call()
    phone.click("#hang-up")
    phone.until_status("You hung up")


def test_a_call_goes_on_when_the_network_changes(browser, bistro, silence):
    phone = browser(bistro, silence)
    phone.call()
    credentials = "eavesdropper.connections[0].remoteDescription.sdp.match(/ice-ufrag:(.*)/)[1]"
    before = phone.evaluate(credentials)
    phone.evaluate("window.dispatchEvent(new Event('online'))")
    until(lambda: phone.evaluate(credentials) != before, "ICE is restarted")
    until(lambda: phone.evaluate("eavesdropper.connections[0].iceConnectionState") in ["connected", "completed"], "ICE is done")
    phone.key("2")
    phone.until("a key arrives by the new way", lambda seen: any("open every day" in each for each in said(seen, "agent")))
    phone.until("the answer is heard", lambda seen: seen["levels"][1] > 0.3)
    phone.click("#hang-up")
    until(bistro.is_clean, "nothing is left of the call")


def test_a_call_survives_a_gateway_that_is_away_for_seconds(browser, start, tmp_path, silence):
    gateway = WhipGateway(start, tmp_path, "gateway-away", BISTRO)
    phone = browser(gateway, silence)
    phone.call()
    gateway.process.child.send_signal(signal.SIGSTOP)
    try:
        phone.until_status("Reconnecting…", patience=15)
    finally:
        gateway.process.child.send_signal(signal.SIGCONT)
    phone.until_status("Connected", patience=15)
    phone.key("2")
    phone.until("keys arrive", lambda seen: any("open every day" in each for each in said(seen, "agent")))
    phone.click("#hang-up")
    until(gateway.is_clean, "nothing is left of the call")


def test_without_leave_to_use_the_microphone_the_caller_is_told(browser, bistro):
    switches = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny"]
    phone = browser(bistro, switches=switches)
    phone.click("#call")
    phone.until_status("No call", "The microphone is not allowed.")


@pytest.mark.parametrize(
    ("error", "words"),
    [("NotFoundError", "There is no microphone."), ("NotReadableError", "Another program may be using it.")],
)
def test_a_microphone_that_is_missing_or_in_use_has_its_words(browser, bistro, silence, error, words):
    phone = browser(bistro, silence)
    # Whatever this machine has, the browser answers as it does on one without.
    phone.evaluate(f"void (navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{error}') }})")
    phone.click("#call")
    phone.until_status("No call", words)


def test_a_token_is_asked_for_and_each_wrong_one_has_its_words(browser, start, tmp_path, silence):
    gateway = WhipGateway(
        *[start, tmp_path, "gateway-tokens", BISTRO, ["support", "sales"]],
        TANDEM_WHIP_TOKENS=f"support:{TOKEN} sales:{OTHER_TOKEN}",
    )
    phone = browser(gateway, silence, complaints=["status of 401", "status of 403"], address="#support")
    phone.click("#call")
    phone.until_status("No call", "The gateway wants a token for this call.")
    phone.fill("#token", "wrong")
    phone.click("#call")
    phone.until_status("No call", "The gateway does not know this token.")
    phone.fill("#token", OTHER_TOKEN)
    phone.click("#call")
    phone.until_status("No call", "This token is not for the route “support”.")
    phone.select("#route", "sales")
    phone.call()
    phone.click("#hang-up")
    phone.until_status("You hung up")
    until(gateway.is_clean, "nothing is left of the call")
    assert gateway.ended("caller_hung_up") == 1


def test_a_route_that_is_not_there_has_its_words(browser, bistro, silence):
    phone = browser(bistro, silence, complaints=["status of 404"])
    # As a page does that was opened before the routes were changed.
    phone.evaluate("document.querySelector('#route').append(new Option('sale/s?', 'sale/s?', true, true))")
    phone.click("#call")
    phone.until_status("No call", "There is no route “sale/s?” here.")


def test_busy_and_draining_and_gone_have_their_words(browser, start, tmp_path, silence):
    gateway = WhipGateway(start, tmp_path, "gateway-busy", BISTRO, TANDEM__LIMITS__CALLS="1")
    first = browser(gateway, silence)
    first.call()
    second = browser(gateway, silence, complaints=["status of 503", "ERR_CONNECTION_REFUSED"])
    second.click("#call")
    second.until_status("No call", "All lines are busy. Please try again in ")
    gateway.post("/v1/drain")
    second.click("#call")
    second.until_status("No call", "The gateway is shutting down and takes no new calls.")
    assert first.seen()["status"] == "Connected", "a drain lets calls finish"
    first.click("#hang-up")
    first.until_status("You hung up")
    until(gateway.is_clean, "nothing is left of the call")
    gateway.process.stop()
    second.click("#call")
    second.until_status("No call", "The gateway cannot be reached.")


def test_when_no_sound_gets_through_the_caller_is_told(browser, start, tmp_path, silence):
    (nobody,) = free_ports(1)
    gateway = WhipGateway(
        *[start, tmp_path, "gateway-unreachable", BISTRO], webrtc=f'advertised_addresses = ["127.0.0.1:{nobody}"]'
    )
    phone = browser(gateway, silence, complaints=["status of 404"])
    phone.click("#call")
    # The gateway may have given up first, and then knows nothing of the call that the page ends.
    phone.until_status("No call", "no sound gets through", patience=15)
    until(gateway.is_clean, "nothing is left of the call")
