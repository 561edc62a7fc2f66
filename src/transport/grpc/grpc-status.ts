import { create, toBinary } from '@bufbuild/protobuf';
import { anyPack, durationMs } from '@bufbuild/protobuf/wkt';
import type { ConnectError } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import { RetryInfoSchema } from '../../gen/google/rpc/error_details_pb.ts';
import { StatusSchema } from '../../gen/google/rpc/status_pb.ts';

/** The metadata that every answer has. */
export function requestIdMetadata(requestId: string): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', requestId);
  return metadata;
}

/**
 * An error as grpc-js sends it: the details in `grpc-status-details-bin`, as a `google.rpc.Status`, and of these the time to wait
 * before another try once more where gRPC's own retries look for it.
 */
export function grpcStatus(failure: ConnectError, requestId: string): grpc.StatusObject {
  const metadata = requestIdMetadata(requestId);
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
