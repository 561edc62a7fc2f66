/** The DOM name that Connect's declarations use. Without it they need `lib: ["dom"]`, which would let browser globals through. */
type HeadersInit = NonNullable<ConstructorParameters<typeof Headers>[0]>;
