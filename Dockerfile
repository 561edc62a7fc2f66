# The service with what it needs to run, and no more: no shell, no package manager, no build tools, an ordinary user.
#
#   docker build -t tasks-service .

FROM node:24.21.0-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --include=dev --include=optional
COPY . .
RUN npm run build

FROM node:24.21.0-trixie-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Optional are the Nodes for machines that have none.
RUN npm ci --ignore-scripts --omit=dev --omit=optional && npm cache clean --force

FROM gcr.io/distroless/nodejs24-debian13:nonroot
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/dist-web ./dist-web
COPY package.json LICENSE ./
COPY migrations ./migrations
ENV NODE_ENV=production NODE_OPTIONS=--enable-source-maps
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["/nodejs/bin/node", "dist/main.js", "healthcheck"]
# As in bin/launch.mjs.
ENTRYPOINT ["/nodejs/bin/node", "--max-semi-space-size=16", "--heap-growing-percent=75", "--no-parallel-scavenge"]
CMD ["dist/main.js", "serve"]
