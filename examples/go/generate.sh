#!/bin/sh
# Generates gen/ from the repository's proto files. With --check, only says whether gen/ is up to date.
# Needs Go, and buf, which "npm ci" at the top of the repository installs.
set -eu
cd "$(dirname "$0")/../.."
if [ "${1:-}" != "--check" ]; then
	exec npx buf generate --template examples/go/buf.gen.yaml --path proto/sandgate
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
npx buf generate --template examples/go/buf.gen.yaml --path proto/sandgate --output "$fresh"
# A changed comment alone leaves the code as it is.
diff -r -I "^[[:space:]]*//" "$fresh/examples/go/gen" examples/go/gen
