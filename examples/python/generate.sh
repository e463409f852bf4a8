#!/bin/sh
# Generates the client code for the API into the directory given, or into gen/ beside this script.
# Needs the packages of requirements.txt; PYTHON names the interpreter that has them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-"$here/gen"}
mkdir -p "$out"
cd "$here/../../proto"
exec "${PYTHON:-python3}" -m grpc_tools.protoc -I. \
	--python_out="$out" --pyi_out="$out" --grpc_python_out="$out" sandgate/v1/*.proto
