/** The messages, enumerations and descriptors of the API. */
export * from "../gen/sandgate/v1/checkpoint_pb.js";
export * from "../gen/sandgate/v1/common_pb.js";
export * from "../gen/sandgate/v1/decision_pb.js";
export * from "../gen/sandgate/v1/policy_pb.js";
export * from "../gen/sandgate/v1/process_pb.js";
export * from "../gen/sandgate/v1/sandbox_pb.js";
export * from "../gen/sandgate/v1/server_pb.js";
export * from "../gen/sandgate/v1/stdio_pb.js";
export * from "../gen/sandgate/v1/watch_pb.js";
export * from "../gen/sandgate/v1/workdir_pb.js";
