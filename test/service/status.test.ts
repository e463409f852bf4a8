import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { invalidField, SandboxError } from "../../src/base/errors.js";
import { BadRequestSchema, ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import { ErrorReason } from "../../src/gen/sandgate/v1/common_pb.js";
import { problemOf, statusOf } from "../../src/service/status.js";

const noBug = (): never => assert.fail("no bug was expected");

describe("status of a failed call", () => {
  it("names the field in BadRequest and the reason in ErrorInfo, which is what Go and Python read", () => {
    const { code, metadata } = statusOf(invalidField("spec.limits", "too large", { limit: "5" }), noBug);
    assert.equal(code, status.INVALID_ARGUMENT);
    const { details, code: inner } = fromBinary(StatusSchema, metadata.get("grpc-status-details-bin")[0] as Buffer);
    assert.equal(inner, status.INVALID_ARGUMENT);
    const info = details.map((detail) => anyUnpack(detail, ErrorInfoSchema)).find((found) => found !== undefined);
    assert.deepEqual([info?.reason, info?.domain, info?.metadata], ["INVALID_FIELD", "sandgate.v1", { limit: "5" }]);
    const request = details.map((detail) => anyUnpack(detail, BadRequestSchema)).find((found) => found !== undefined);
    assert.equal(request?.fieldViolations[0]?.field, "spec.limits");
  });

  it("cuts a message that would not fit into the trailers", () => {
    const { details, metadata } = statusOf(new SandboxError("not_found", "x".repeat(100_000)), noBug);
    assert.ok(details.length < 3000);
    assert.ok((metadata.get("grpc-status-details-bin")[0] as Buffer).length < 8000);
  });

  it("reports a bug once, under the id that the status carries", () => {
    const bugs: unknown[][] = [];
    const { code, details } = statusOf(new RangeError("inside"), (...bug) => bugs.push(bug));
    assert.equal(code, status.INTERNAL);
    assert.equal(bugs.length, 1);
    assert.ok(details.includes(String(bugs[0]?.[0])));
    assert.ok(!details.includes("inside"));
  });

  it("says the same of one item of a stream", () => {
    const refusal = new SandboxError("failed_precondition", "late", { reason: "VERDICT_LATE", retryDelayMs: 250 });
    const problem = problemOf(refusal);
    assert.deepEqual(
      [problem.code, problem.reason, problem.message],
      [status.FAILED_PRECONDITION, ErrorReason.VERDICT_LATE, "late"],
    );
    assert.deepEqual(problem.retryDelay, { $typeName: "google.protobuf.Duration", seconds: 0n, nanos: 250_000_000 });
    assert.equal(problemOf(new Error("inside")).message?.includes("inside"), false);
  });
});
