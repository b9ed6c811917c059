"""Serves the comments of a pull request with the API of GitHub and GitLab: list, create, update. Used by forge.sh.

forge_api.py FOLDER PORT_FILE stores each comment in FOLDER/ID.md and writes its port to PORT_FILE.
"""

import json
import pathlib
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

FOLDER, PORT_FILE = (pathlib.Path(argument) for argument in sys.argv[1:3])
GITHUB, GITLAB = r"/repos/me/site/issues", r"/api/v4/projects/7/merge_requests/1/notes"
LIMITS = {"github": 65_536, "gitlab": 1_000_000}


class Comments(BaseHTTPRequestHandler):
    def forge(self):
        return "gitlab" if self.path.startswith("/api/v4/") else "github"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self):
        header, value = {
            "github": ("Authorization", "Bearer token-of-the-job"),
            "gitlab": ("PRIVATE-TOKEN", "token-of-the-job"),
        }[self.forge()]
        if self.headers.get(header) == value:
            return True
        self.answer(401, {"message": "Bad credentials"})
        return False

    def write(self, number, status):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
        if len(body) > LIMITS[self.forge()]:
            return self.answer(422, {"message": "body is too long"})
        (FOLDER / f"{number}.md").write_text(body)
        self.answer(status, {"id": number, "body": body})

    def do_GET(self):
        url = urlparse(self.path)
        if not self.allowed():
            return
        if url.path not in (f"{GITHUB}/1/comments", GITLAB):
            return self.answer(404, {"message": "Not Found"})
        files = sorted(FOLDER.glob("*.md"), key=lambda file: int(file.stem))
        page = int(parse_qs(url.query).get("page", ["1"])[0])
        shown = files[(page - 1) * 100 : page * 100]
        self.answer(200, [{"id": int(file.stem), "body": file.read_text()} for file in shown])

    def do_POST(self):
        if not self.allowed():
            return
        if self.path not in (f"{GITHUB}/1/comments", GITLAB):
            return self.answer(404, {"message": "Not Found"})
        self.write(1 + max((int(file.stem) for file in FOLDER.glob("*.md")), default=0), 201)

    def change(self):
        match = re.fullmatch(rf"(?:{GITHUB}/comments|{GITLAB})/(\d+)", self.path)
        if not self.allowed():
            return
        if match is None or not (FOLDER / f"{match[1]}.md").exists():
            return self.answer(404, {"message": "Not Found"})
        self.write(int(match[1]), 200)

    def do_PATCH(self):
        self.change() if self.forge() == "github" else self.answer(405, {})

    def do_PUT(self):
        self.change() if self.forge() == "gitlab" else self.answer(405, {})

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Comments)
part = PORT_FILE.with_suffix(".part")
part.write_text(str(server.server_port))
part.rename(PORT_FILE)
server.serve_forever()
