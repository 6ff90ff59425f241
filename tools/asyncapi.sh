#!/usr/bin/env bash
# Validates api/asyncapi.yaml with AsyncAPI's own parser, pinned, from npm into .cache/. Needs node 18 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."

parser=3.6.6
if ! command -v npm >/dev/null; then
	echo "asyncapi: npm not found; install Node.js 18 or newer, for example: apt-get install nodejs npm" >&2
	exit 1
fi
folder=.cache/asyncapi-parser-$parser
if [ ! -e "$folder/ready" ]; then
	mkdir -p "$folder"
	# 77: could not be checked here (no network), as opposed to found wrong
	npm install --prefix "$folder" --silent --no-fund --no-audit --no-save --ignore-scripts "@asyncapi/parser@$parser" || exit 77
	touch "$folder/ready"
fi
NODE_PATH=$folder/node_modules node -e '
const { Parser } = require("@asyncapi/parser");
const fs = require("fs");
new Parser().parse(fs.readFileSync("api/asyncapi.yaml", "utf8")).then(({ document, diagnostics }) => {
	const levels = ["error", "warning", "info", "hint"];
	let bad = !document;
	for (const d of diagnostics) {
		const line = d.range ? d.range.start.line + 1 : 0;
		console.error(`api/asyncapi.yaml:${line}: ${levels[d.severity]}: ${d.message} (${d.path.join(".")})`);
		bad ||= d.severity <= 1;
	}
	if (bad) process.exit(1);
	console.log(`asyncapi: api/asyncapi.yaml is valid AsyncAPI ${document.version()}, ${document.channels().length} channels`);
});'
