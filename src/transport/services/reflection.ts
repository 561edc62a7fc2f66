import {
  create,
  type DescFile,
  type DescMessage,
  type DescService,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code } from '@connectrpc/connect';
import { bidiStreaming, type Method } from '../../call/method.ts';
import {
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from '../../gen/grpc/reflection/v1/reflection_pb.ts';
import {
  ServerReflectionRequestSchema as AlphaRequestSchema,
  ServerReflectionResponseSchema as AlphaResponseSchema,
  ServerReflection as AlphaServerReflection,
} from '../../gen/grpc/reflection/v1alpha/reflection_pb.ts';

/** The reflection services themselves, in both versions: older clients know only the first. */
export const reflectionServices: readonly DescService[] = [ServerReflection, AlphaServerReflection];

/**
 * The methods by which clients fetch our proto files: `grpc.reflection.v1`, and the same under its old name `v1alpha`.
 *
 * @param services are listed.
 * @param more files that clients may ask for beside those of the services, such as those of error details.
 */
export function reflectionMethods(services: readonly DescService[], more: readonly DescFile[]): Method[] {
  const answer = createAnswers(services, more);
  return [
    bidiStreaming(ServerReflection.method.serverReflectionInfo, async function* (requests) {
      for await (const request of requests) yield answer(request);
    }),
    // The two versions differ in their package alone, so that a message of one is a message of the other.
    bidiStreaming(AlphaServerReflection.method.serverReflectionInfo, async function* (requests) {
      for await (const request of requests) {
        const response = answer(fromBinary(ServerReflectionRequestSchema, toBinary(AlphaRequestSchema, request)));
        yield fromBinary(AlphaResponseSchema, toBinary(ServerReflectionResponseSchema, response));
      }
    }),
  ];
}

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>['messageResponse']>;

function createAnswers(
  services: readonly DescService[],
  more: readonly DescFile[],
): (request: ServerReflectionRequest) => ServerReflectionResponse {
  const files = new Map<string, DescFile>();
  const symbols = new Map<string, DescFile>();
  const messages = new Map<string, DescMessage>();
  const extensions = new Map<string, Map<number, DescFile>>();
  for (const file of withDependencies([...services.map((service) => service.file), ...more])) {
    files.set(file.proto.name, file);
    addSymbols(file, symbols, messages, extensions);
  }

  const filesOf = (file: DescFile | undefined, what: string): Answer => {
    if (file === undefined) return notFound(what);
    const fileDescriptorProto = withDependencies([file]).map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
    return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  };

  const answerTo = ({ messageRequest: asked }: ServerReflectionRequest): Answer => {
    switch (asked.case) {
      case 'listServices':
        return {
          case: 'listServicesResponse',
          value: { service: services.map(({ typeName }) => ({ name: typeName })) },
        };
      case 'fileByFilename':
        return filesOf(files.get(asked.value), `file ${asked.value}`);
      case 'fileContainingSymbol':
        return filesOf(symbols.get(asked.value), `symbol ${asked.value}`);
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = asked.value;
        const file = extensions.get(containingType)?.get(extensionNumber);
        return filesOf(file, `extension ${extensionNumber} of ${containingType}`);
      }
      case 'allExtensionNumbersOfType':
        if (!messages.has(asked.value)) return notFound(`message ${asked.value}`);
        return {
          case: 'allExtensionNumbersResponse',
          value: { baseTypeName: asked.value, extensionNumber: [...(extensions.get(asked.value)?.keys() ?? [])] },
        };
      default:
        return {
          case: 'errorResponse',
          value: { errorCode: Code.InvalidArgument, errorMessage: 'the request asks for nothing' },
        };
    }
  };

  return (request) =>
    create(ServerReflectionResponseSchema, {
      validHost: request.host,
      originalRequest: request,
      messageResponse: answerTo(request),
    });
}

function notFound(what: string): Answer {
  return { case: 'errorResponse', value: { errorCode: Code.NotFound, errorMessage: `there is no ${what}` } };
}

/** The files and all that they import, directly or not: each once, the given ones first. */
function withDependencies(files: readonly DescFile[]): DescFile[] {
  const all = new Set(files);
  for (const file of all) for (const dependency of file.dependencies) all.add(dependency); // iterating a Set also visits what is added meanwhile
  return [...all];
}

/**
 * Indexes in which file each name is defined: messages, fields, oneofs, enums and their values, extensions, services and methods.
 */
function addSymbols(
  file: DescFile,
  symbols: Map<string, DescFile>,
  messages: Map<string, DescMessage>,
  extensions: Map<string, Map<number, DescFile>>,
): void {
  const add = (name: string): void => {
    symbols.set(name, file);
  };
  const within = (scope: string, name: string): string => (scope === '' ? name : `${scope}.${name}`);
  const addEnums = (enums: DescFile['enums'], scope: string): void => {
    for (const { typeName, values } of enums) {
      add(typeName);
      // Values are named beside their enum, not in it, as in C++.
      for (const value of values) add(within(scope, value.name));
    }
  };
  const addExtensions = (list: DescFile['extensions']): void => {
    for (const extension of list) {
      add(extension.typeName);
      const numbers = extensions.get(extension.extendee.typeName) ?? new Map<number, DescFile>();
      extensions.set(extension.extendee.typeName, numbers.set(extension.number, file));
    }
  };
  const addMessage = (message: DescMessage): void => {
    add(message.typeName);
    messages.set(message.typeName, message);
    for (const field of message.fields) add(`${message.typeName}.${field.name}`);
    for (const oneof of message.oneofs) add(`${message.typeName}.${oneof.name}`);
    addEnums(message.nestedEnums, message.typeName);
    addExtensions(message.nestedExtensions);
    for (const nested of message.nestedMessages) addMessage(nested);
  };

  for (const message of file.messages) addMessage(message);
  addEnums(file.enums, file.proto.package);
  addExtensions(file.extensions);
  for (const service of file.services) {
    add(service.typeName);
    for (const method of service.methods) add(`${service.typeName}.${method.name}`);
  }
}
