"""Runs a program in a sandbox and decides, from Python, which hosts it may reach.

The program tries two addresses. Both are answered by the same listener, which this script opens, so
what makes the difference is the verdict: one connect is allowed, the other refused.
"""

import argparse
import queue
import socket
import sys
import threading
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sandgate.v1 import (
    decision_pb2,
    decision_pb2_grpc,
    policy_pb2,
    process_pb2,
    sandbox_pb2,
    sandbox_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    stdio_pb2,
    stdio_pb2_grpc,
)

ALLOWED_HOST = "127.0.0.1"
REFUSED_HOST = "127.0.0.2"

GUEST = """
for host in "$1" "$2"; do
  if read -r line <"/dev/tcp/$host/$3"; then echo "$host says $line"; else echo "$host is out of reach"; fi
done
"""


class Outbox:
    """The requests of a bidirectional call: an iterator that other code feeds."""

    def __init__(self):
        self._queue = queue.SimpleQueue()

    def send(self, message):
        self._queue.put(message)

    def close(self):
        self._queue.put(None)

    def __iter__(self):
        return iter(self._queue.get, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="the service, such as unix:/run/sandgate/sandgate.sock or 127.0.0.1:7443")
    address = parser.parse_args().address

    with grpc.insecure_channel(address) as channel, greeter() as port:
        info = server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=10)
        print(f"server {info.version} on Linux {info.kernel_release}, Landlock ABI {info.landlock_abi}")
        code = run_decided(channel, port)
        show_errors(channel)
    return code


def run_decided(channel, port):
    sandbox_id = f"python-{uuid.uuid4()}"
    sandboxes = sandbox_pb2_grpc.SandboxServiceStub(channel)

    # The decider comes first: a call that is held while no decider is connected is refused.
    verdicts = Outbox()
    verdicts.send(
        decision_pb2.DecideRequest(
            open=decision_pb2.DecideOpen(
                decider="python-example",
                selector={"sandbox_ids": [sandbox_id]},
                window=16,
                outcomes=decision_pb2.OUTCOME_REPORTING_FAILURES,
            )
        )
    )
    responses = decision_pb2_grpc.DecisionServiceStub(channel).Decide(iter(verdicts))
    opened = next(responses)
    assert opened.WhichOneof("message") == "opened", opened
    decider = threading.Thread(target=decide, args=(responses, verdicts))
    decider.start()

    try:
        spawned = sandboxes.Spawn(
            sandbox_pb2.SpawnRequest(
                request_id=str(uuid.uuid4()),
                sandbox_id=sandbox_id,
                spec=policy_pb2.SandboxSpec(
                    display_name="python example",
                    # Nothing may be reached as it is; a verdict may allow what is grantable.
                    network=policy_pb2.NetworkPolicy(
                        grantable=[policy_pb2.NetworkRule(transport=policy_pb2.TRANSPORT_TCP, host="127.0.0.0/8")]
                    ),
                    holds=policy_pb2.HoldPolicy(triggers=[policy_pb2.HoldTrigger(syscalls=["connect"])]),
                ),
                process=process_pb2.ProcessSpec(
                    argv=["bash", "-c", GUEST, "guest", ALLOWED_HOST, REFUSED_HOST, str(port)],
                ),
            ),
            timeout=10,
        )
        for warning in spawned.warnings:
            print(f"warning: {warning.message}")
        exit_status = follow(channel, sandbox_id)
    finally:
        sandboxes.DeleteSandbox(sandbox_pb2.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=10)
        verdicts.close()
        decider.join()

    if exit_status.WhichOneof("result") == "signal":
        print(f"killed by signal {exit_status.signal}")
        return 128 + exit_status.signal
    print(f"exit code {exit_status.code}")
    return exit_status.code


def decide(responses, verdicts):
    """Answers each held call until the stream ends."""
    for response in responses:
        match response.WhichOneof("message"):
            case "calls":
                batch = decision_pb2.VerdictBatch(verdicts=[judge(call) for call in response.calls.calls])
                verdicts.send(decision_pb2.DecideRequest(verdicts=batch))
            case "outcomes":
                for outcome in response.outcomes.outcomes:
                    print(f"verdict for {outcome.hold_id} was not applied: {outcome.problem.message}")
            case "problem":
                print(f"problem: {response.problem.message}")


def judge(call):
    verdict = decision_pb2.Verdict(hold_id=call.hold_id, deny=policy_pb2.Deny())
    if call.WhichOneof("detail") != "network":
        print(f"held: {call.syscall}: deny")
        return verdict
    host = socket.inet_ntop(
        socket.AF_INET if len(call.network.address.ip) == 4 else socket.AF_INET6, call.network.address.ip
    )
    allowed = host == ALLOWED_HOST
    if allowed:
        verdict.allow.SetInParent()
        verdict.reason = "the host is on our list"
    print(f"held: {call.task.command.text} wants {call.syscall} to {host}: {'allow' if allowed else 'deny'}")
    return verdict


def follow(channel, sandbox_id):
    """Prints what the program writes, from its first byte, and returns how it ended."""
    requests = Outbox()
    requests.send(
        stdio_pb2.AttachRequest(
            open=stdio_pb2.AttachOpen(
                sandbox_id=sandbox_id,
                offsets={process_pb2.STDIO_STREAM_STDOUT: 0, process_pb2.STDIO_STREAM_STDERR: 0},
            )
        )
    )
    tails = {process_pb2.STDIO_STREAM_STDOUT: b"", process_pb2.STDIO_STREAM_STDERR: b""}
    names = {process_pb2.STDIO_STREAM_STDOUT: "stdout", process_pb2.STDIO_STREAM_STDERR: "stderr"}
    for response in stdio_pb2_grpc.StdioServiceStub(channel).Attach(iter(requests)):
        match response.WhichOneof("message"):
            case "output":
                output = response.output
                *lines, tails[output.stream] = (tails[output.stream] + output.data).split(b"\n")
                for line in lines:
                    print(f"{names[output.stream]}: {line.decode(errors='replace')}")
                # Bytes read make room for as many more.
                requests.send(stdio_pb2.AttachRequest(credit=stdio_pb2.OutputCredit(bytes=len(output.data))))
            case "exit":
                requests.close()
                return response.exit
    raise RuntimeError("the attachment ended before the program did")


def show_errors(channel):
    """What wrong requests get: a gRPC status with the reason and the field, for programs to read."""
    sandboxes = sandbox_pb2_grpc.SandboxServiceStub(channel)
    wrong = {
        "spawn without a program": lambda: sandboxes.Spawn(
            sandbox_pb2.SpawnRequest(request_id=str(uuid.uuid4()), process=process_pb2.ProcessSpec()), timeout=10
        ),
        "spawn with a relative path": lambda: sandboxes.Spawn(
            sandbox_pb2.SpawnRequest(
                request_id=str(uuid.uuid4()),
                spec=policy_pb2.SandboxSpec(filesystem=policy_pb2.FilesystemPolicy(readable=["data"])),
                process=process_pb2.ProcessSpec(argv=["true"]),
            ),
            timeout=10,
        ),
        "spawn of a missing program": lambda: sandboxes.Spawn(
            sandbox_pb2.SpawnRequest(
                request_id=str(uuid.uuid4()), process=process_pb2.ProcessSpec(argv=["/usr/bin/no-such-program"])
            ),
            timeout=10,
        ),
        "look up a sandbox that is not there": lambda: sandboxes.GetSandbox(
            sandbox_pb2.GetSandboxRequest(sandbox_id="not-there"), timeout=10
        ),
    }
    for what, call in wrong.items():
        try:
            call()
            print(f"{what}: accepted")
        except grpc.RpcError as error:
            print(f"{what}: {describe(error)}")


def describe(error):
    """Unpacks google.rpc.Status from a failed call."""
    reason, field, metadata = "", "", {}
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else []:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(sorted(info.metadata.items()))
        elif detail.Unpack(bad_request):
            field = ", ".join(violation.field for violation in bad_request.field_violations)
    stage = f" stage={metadata['stage']}" if "stage" in metadata else ""
    return f"{error.code().name} reason={reason} field={field}{stage}"


class greeter:
    """Listens on every local address and greets who connects; gives its port."""

    def __enter__(self):
        self._socket = socket.create_server(("0.0.0.0", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self._socket.getsockname()[1]

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"hello\n")

    def __exit__(self, *_):
        self._socket.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except grpc.RpcError as error:
        sys.exit(f"the service refused: {describe(error)}: {error.details()}")
