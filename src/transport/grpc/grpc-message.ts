import { create, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { anyPack, durationMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import type { RunningCall } from '../../call/call-chain.ts';
import { canceled, unreadableRequest } from '../../call/errors.ts';
import type { Method, UnaryMethod } from '../../call/method.ts';
import { RetryInfoSchema } from '../../gen/google/rpc/error_details_pb.ts';
import { StatusSchema } from '../../gen/google/rpc/status_pb.ts';
import { frameOf } from '../../tasks/wire-writer.ts';

/** What answers the calls of a unary method: bytes of the request to the frame of the response. It rejects with what the client shall see. */
export function answerUnary(method: UnaryMethod): (running: RunningCall, request: Buffer) => Promise<Buffer> {
  const { encoded } = method;
  return encoded === undefined
    ? (running, request) =>
        running.unary(
          method,
          () => decode(method, request),
          (response) => frameOf(encode(method, response)),
        )
    : (running, request) => running.unary({ handle: encoded }, () => decode(method, request), asIs);
}

function asIs(frame: Buffer): Buffer {
  return frame;
}

/**
 * Reads a request.
 *
 * @throws {ConnectError} INVALID_ARGUMENT when the bytes are no such message.
 */
export function decode(method: Method, bytes: Buffer): Message {
  try {
    return fromBinary(method.desc.input, bytes);
  } catch (error) {
    throw unreadableRequest(error instanceof Error ? error.message : String(error));
  }
}

/** Turns a response into bytes. */
export function encode(method: Method, response: Message): Buffer {
  const bytes = toBinary(method.desc.output, response);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What every answer has in its headers. */
export function requestIdOf(running: RunningCall): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', running.requestId);
  return metadata;
}

/**
 * An error as grpc-js sends it: the details in `grpc-status-details-bin`, as a `google.rpc.Status`, and of these the time to wait
 * before another try once more where gRPC's own retries look for it.
 */
export function statusOf(error: unknown, running: RunningCall): grpc.StatusObject {
  const failure = error instanceof ConnectError ? error : canceled(error);
  const metadata = requestIdOf(running);
  for (const [name, value] of detailsOf(failure)) metadata.set(name, value);
  return { code: failure.code as number, details: failure.rawMessage, metadata };
}

/** The details as they are sent, once for each error: a server that refuses calls refuses all with one. */
const encodedDetails = new WeakMap<ConnectError, [name: string, value: Buffer | string][]>();

function detailsOf(failure: ConnectError): [name: string, value: Buffer | string][] {
  if (failure.details.length === 0) return [];
  const known = encodedDetails.get(failure);
  if (known !== undefined) return known;
  const details = failure.details.map((detail) =>
    'desc' in detail
      ? anyPack(detail.desc, create(detail.desc, detail.value))
      : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
  );
  const status = create(StatusSchema, { code: failure.code, message: failure.rawMessage, details });
  const encoded: [string, Buffer | string][] = [['grpc-status-details-bin', Buffer.from(toBinary(StatusSchema, status))]];
  const [retry] = failure.findDetails(RetryInfoSchema);
  if (retry?.retryDelay !== undefined) encoded.push(['grpc-retry-pushback-ms', String(durationMs(retry.retryDelay))]);
  encodedDetails.set(failure, encoded);
  return encoded;
}
