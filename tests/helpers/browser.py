"""A real browser, driven over the DevTools protocol through two pipes: nothing but the standard library."""

import base64
import contextlib
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time

import numpy as np
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page of a headless Chromium. `problems`: errors, warnings and refused requests; `requests`: their addresses.

    Use as a context manager. Raises TimeoutError if the browser does not answer within a minute.
    """

    def __init__(self, folder):
        self.problems, self.requests, self._events, self._count, self._session = [], [], [], 0, None
        to_child, to_us = os.pipe(), os.pipe()
        # above 4, so that neither is overwritten on the way to 3 and 4
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_child[0], to_us[1])]
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--enable-unsafe-swiftshader",  # WebGL without a GPU: Gradio's editor of pictures paints with it
            "--disable-background-networking", "--disable-crash-reporter", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={folder}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=lambda: [os.dup2(end, fd) for end, fd in zip(ends, (3, 4), strict=True)],
        )
        for fd in (*ends, to_child[0], to_us[1]):
            os.close(fd)
        self._write, self._read, self._buffer = to_child[1], to_us[0], b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(TimeoutError, OSError):
            self._session = None
            self.call("Browser.close")
        for fd in (self._write, self._read):
            os.close(fd)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method, **params):
        """The result of one command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _receive(self):
        deadline = time.monotonic() + 60
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("The browser does not answer.")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise TimeoutError("The browser has ended.")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(message)
        self._note(message.get("method"), message.get("params"))
        return message

    def _note(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method is not None:
            self._events.append(method)

    def open(self, address):
        """Go to an address and wait until it is loaded; one that differs in its fragment alone loads nothing."""
        self._events.clear()
        if "loaderId" in self.call("Page.navigate", url=address):
            while "Page.loadEventFired" not in self._events:
                self._receive()
        else:  # the event that tells of a new fragment comes later
            self.run("new Promise(done => setTimeout(done))")

    def run(self, code):
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key):
        """One key, as `KeyboardEvent.key` names it."""
        for kind in ("keyDown", "keyUp"):
            codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
            params = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
            typed = "\r" if key == "Enter" else key if len(key) == 1 else ""
            self.call("Input.dispatchKeyEvent", type=kind, **params, **({"text": typed} if typed else {}))

    def wait(self, condition, seconds=90):
        """Until a JavaScript expression is true; what is on the page where it stays false."""
        deadline = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < deadline, f"{condition}: {self.run('document.body.innerText')}"
            time.sleep(0.2)

    def choose(self, *files, which=0):
        """Files for an input of files."""
        self.wait(f"document.querySelectorAll('input[type=file]').length > {which}")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        nodes = self.call("DOM.querySelectorAll", nodeId=root, selector="input[type=file]")["nodeIds"]
        self.call("DOM.setFileInputFiles", nodeId=nodes[which], files=[str(file) for file in files])

    def click(self, kind, text="", count=1):
        """The last element of a kind that holds a text."""
        every = f"[...document.querySelectorAll({json.dumps(kind)})]"
        found = f"{every}.findLast(x => x.textContent.includes({json.dumps(text)}))"
        left, top, width, height = self.place(found)
        self.drag([(left + min(width, 40) / 2, top + height / 2)], count)

    def place(self, element):
        """Where an element is, (left, top, width, height), once it is there, was scrolled to and moves no more."""
        now = f"(r => [r.left, r.top, r.width, r.height])({element}.getBoundingClientRect())"
        before = None
        for _ in range(100):
            self.wait(f"Boolean({element})")
            self.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
            place = self.run(now)
            if place == before:
                break
            before = place
            time.sleep(0.2)
        return place

    def drag(self, points, count=1):
        """The mouse to the first point, pressed there, over the others and up; `count`: how many clicks it makes."""

        def mouse(kind, at, **options):
            self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", **options)

        mouse("mouseMoved", points[0])
        for number in range(1, count + 1):
            mouse("mousePressed", points[0], buttons=1, clickCount=number)
            for point in points[1:]:
                mouse("mouseMoved", point, buttons=1)
            mouse("mouseReleased", points[-1], clickCount=number)

    def type(self, text):
        """Text, where the cursor is."""
        self.call("Input.insertText", text=text)

    def resize(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def scheme(self, name):
        """ "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self):
        """What is seen, (H, W, 3) uint8."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
