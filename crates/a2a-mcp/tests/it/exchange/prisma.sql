-- What Prisma makes of the schema of the older system, with what its users had in it.
CREATE TYPE "MemoryType" AS ENUM ('CONVERSATION', 'PROCEDURAL', 'EPISODIC', 'SEMANTIC', 'TOOL_USAGE', 'PREFERENCE');
CREATE TYPE "WorkflowStatus" AS ENUM ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED');
CREATE TYPE "WorkflowStepStatus" AS ENUM ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'SKIPPED');

CREATE TABLE "Agent" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "version" TEXT NOT NULL,
    "category" TEXT,
    "tags" TEXT[],
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "deployedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "capabilities" JSONB NOT NULL,
    "config" JSONB,
    CONSTRAINT "Agent_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "Memory" (
    "id" TEXT NOT NULL,
    "agentId" TEXT NOT NULL,
    "type" "MemoryType" NOT NULL,
    "content" TEXT NOT NULL,
    "importance" DOUBLE PRECISION NOT NULL DEFAULT 0.5,
    "timestamp" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expiresAt" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "context" JSONB,
    "embedding" DOUBLE PRECISION[] DEFAULT ARRAY[]::DOUBLE PRECISION[],
    CONSTRAINT "Memory_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "Workflow" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT,
    "agentId" TEXT,
    "status" "WorkflowStatus" NOT NULL DEFAULT 'PENDING',
    "priority" INTEGER NOT NULL DEFAULT 0,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "startedAt" TIMESTAMP(3),
    "completedAt" TIMESTAMP(3),
    "context" JSONB,
    "result" JSONB,
    "error" TEXT,
    CONSTRAINT "Workflow_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "WorkflowStep" (
    "id" TEXT NOT NULL,
    "workflowId" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "order" INTEGER NOT NULL,
    "status" "WorkflowStepStatus" NOT NULL DEFAULT 'PENDING',
    "agentId" TEXT,
    "capability" TEXT,
    "retries" INTEGER NOT NULL DEFAULT 0,
    "maxRetries" INTEGER NOT NULL DEFAULT 3,
    "input" JSONB,
    "output" JSONB,
    "error" TEXT,
    "runIf" TEXT,
    "skipIf" TEXT,
    "dependsOn" TEXT[],
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "startedAt" TIMESTAMP(3),
    "completedAt" TIMESTAMP(3),
    CONSTRAINT "WorkflowStep_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "AgentPersonality" (
    "id" TEXT NOT NULL,
    "agentId" TEXT NOT NULL,
    "creativity" DOUBLE PRECISION NOT NULL DEFAULT 0.5,
    "cautiousness" DOUBLE PRECISION NOT NULL DEFAULT 0.5,
    "verbosity" DOUBLE PRECISION NOT NULL DEFAULT 0.5,
    "technicalDepth" DOUBLE PRECISION NOT NULL DEFAULT 0.5,
    "userFocus" DOUBLE PRECISION NOT NULL DEFAULT 0.5,
    "totalInteractions" INTEGER NOT NULL DEFAULT 0,
    "positiveCount" INTEGER NOT NULL DEFAULT 0,
    "negativeCount" INTEGER NOT NULL DEFAULT 0,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "AgentPersonality_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "ToolUsage" (
    "id" TEXT NOT NULL,
    "agentId" TEXT NOT NULL,
    "toolName" TEXT NOT NULL,
    "executionTime" INTEGER NOT NULL,
    "success" BOOLEAN NOT NULL,
    "timestamp" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "inputSize" INTEGER,
    "outputSize" INTEGER,
    "context" JSONB,
    "error" TEXT,
    CONSTRAINT "ToolUsage_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "MCPServer" (
    "id" TEXT NOT NULL,
    "agentId" TEXT NOT NULL,
    "port" INTEGER NOT NULL,
    "status" TEXT NOT NULL,
    "startedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "lastHealthCheck" TIMESTAMP(3),
    "config" JSONB,
    "metrics" JSONB,
    CONSTRAINT "MCPServer_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "AgentCommunication" (
    "id" TEXT NOT NULL,
    "fromAgentId" TEXT NOT NULL,
    "toAgentId" TEXT NOT NULL,
    "messageType" TEXT NOT NULL,
    "payload" JSONB NOT NULL,
    "response" JSONB,
    "timestamp" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "duration" INTEGER,
    "success" BOOLEAN NOT NULL DEFAULT true,
    CONSTRAINT "AgentCommunication_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "Agent_category_idx" ON "Agent"("category");
CREATE INDEX "Memory_agentId_idx" ON "Memory"("agentId");
CREATE INDEX "WorkflowStep_workflowId_idx" ON "WorkflowStep"("workflowId");
CREATE UNIQUE INDEX "AgentPersonality_agentId_key" ON "AgentPersonality"("agentId");
CREATE UNIQUE INDEX "MCPServer_port_key" ON "MCPServer"("port");
ALTER TABLE "Memory" ADD CONSTRAINT "Memory_agentId_fkey"
    FOREIGN KEY ("agentId") REFERENCES "Agent"("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "Workflow" ADD CONSTRAINT "Workflow_agentId_fkey"
    FOREIGN KEY ("agentId") REFERENCES "Agent"("id") ON DELETE SET NULL ON UPDATE CASCADE;
ALTER TABLE "WorkflowStep" ADD CONSTRAINT "WorkflowStep_workflowId_fkey"
    FOREIGN KEY ("workflowId") REFERENCES "Workflow"("id") ON DELETE CASCADE ON UPDATE CASCADE;

INSERT INTO "Agent" ("id", "name", "version", "category", "tags", "enabled", "deployedAt", "createdAt", "updatedAt",
    "capabilities", "config") VALUES
    ('echo', 'Echo Agent', '1.0.0', 'utility', '{echo,test}', true, '2025-10-01 08:00:00.123', '2025-09-30', now(),
        '[{"name": "chat", "description": "Echoes your input back.", "inputSchema": {"type": "object"},
           "outputSchema": {"type": "object", "required": ["requestId"]}, "streaming": true}]', null),
    ('code-gen-000', 'Code Gen Agent 000', '2', 'code_gen', '{}', false, '2025-10-02', '2025-10-02', now(),
        '[{"name": "generate_code", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}}]',
        '{"model": "fast"}'),
    ('data processor/1', 'Data', '1.4.0', null, null, true, '2025-10-02', '2025-10-02', now(), '[]',
        '{"description": "Transforms data."}'),
    ('monitor', 'Monitor', '1.0', 'ops', '{system}', true, '2025-10-02', '2025-10-02', now(), '[]', '{}'),
    ('writer', 'Writer', '1.0.0', null, '{}', true, '2025-10-02', '2025-10-02', now(),
        '[{"name": "write", "description": "Writes texts"}]', null),
    ('bad-capabilities', 'Bad', '1.0.0', null, '{}', true, '2025-10-02', '2025-10-02', now(), '{"chat": true}', null),
    ('bad-schema', 'Bad', '1.0.0', null, '{}', true, '2025-10-02', '2025-10-02', now(),
        '[{"name": "x", "inputSchema": {"type": "objekt"}}]', null),
    ('data-processor-1', 'Same id', '1.0.0', null, '{}', true, '2025-10-02', '2025-10-02', now(), '[]', null),
    ('huge', 'Huge', '1.0.0', null, '{}', true, '2025-10-02', '2025-10-02', now(), '[]',
        jsonb_build_object('text', repeat('x', 600000)));

INSERT INTO "Memory" ("id", "agentId", "type", "content", "importance", "timestamp", "expiresAt", "context",
    "embedding") VALUES
    ('m1', 'echo', 'CONVERSATION', 'Ann prefers short answers', 0.8, '2025-10-03 10:00:00.5', null,
        '{"sessionId": "s1", "userId": "ann", "task": "chat"}', '{0.1,0.2}'),
    ('m2', 'echo', 'PROCEDURAL', 'Deploy with the blue script', 0.7, '2025-10-03', null, null, '{}'),
    ('m3', 'data processor/1', 'EPISODIC', 'The import of March failed', 0.5, '2025-10-04', '2099-01-01', '["x"]', '{}'),
    ('m4', 'monitor', 'SEMANTIC', 'The disk of stage-2 has 80 GB', 0.5, '2025-10-04', null, '{}', '{}'),
    ('m5', 'monitor', 'TOOL_USAGE', 'http_request is used to check hosts', 0.6, '2025-10-04', null, null, '{}'),
    ('m6', 'writer', 'PREFERENCE', 'Never uses passive voice', 1, '2025-10-04', null, null, '{}'),
    ('m7-expired', 'writer', 'EPISODIC', 'Out of date', 0.5, '2025-10-04', '2025-11-01', null, '{}'),
    ('m8-secret', 'writer', 'SEMANTIC', 'The key is AKIA' || 'IOSFODNN7EXAMPLQ', 0.5, '2025-10-04', null, null, '{}'),
    ('m9-importance', 'writer', 'SEMANTIC', 'Weighs too much', 7, '2025-10-04', null, null, '{}'),
    ('m10-nan', 'writer', 'SEMANTIC', 'Weighs nothing', 'NaN', '2025-10-04', null, null, '{}'),
    ('m11-long', 'writer', 'SEMANTIC', repeat('word ', 8000), 0.5, '2025-10-04', null, null, '{}'),
    ('m12-empty', 'writer', 'SEMANTIC', ' ', 0.5, '2025-10-04', null, null, '{}'),
    ('m13-time', 'writer', 'SEMANTIC', 'For ever', 0.5, '-infinity', null, null, '{}');

INSERT INTO "Workflow" ("id", "name", "description", "agentId", "status", "priority", "updatedAt", "startedAt",
    "context", "result") VALUES
    ('w1', 'Report', 'Makes a report', 'echo', 'COMPLETED', 2, now(), now(), '{"language": "en"}', '{"ok": true}'),
    ('w2', 'No agent', null, null, 'PENDING', 0, now(), null, null, null),
    ('w3', 'Wrong dependency', null, 'echo', 'PENDING', 0, now(), null, null, null),
    ('w4', 'Circle', null, 'echo', 'PENDING', 0, now(), null, null, null),
    ('w5', 'Nothing to do', null, 'echo', 'PENDING', 0, now(), null, null, null);

INSERT INTO "WorkflowStep" ("id", "workflowId", "name", "order", "agentId", "capability", "maxRetries", "input", "output",
    "runIf", "skipIf", "dependsOn") VALUES
    ('s3', 'w1', 'Write Report', 3, 'writer', 'write', 0, '{"text": "{{fetch_result.text}} in {{language}}"}', null,
        'fetch_result.ok === true && !(language !== ''en'')', null, '{s2,fetch}'),
    ('s1', 'w1', 'fetch', 1, 'data processor/1', null, 3, '{"action": "fetch"}', '{"rows": 3}', null, null, '{}'),
    ('s2', 'w1', 'Fetch Data', 2, null, 'chat', 200, null, null, null, 'language === "de"', '{s1}'),
    ('s4', 'w2', 'alone', 1, null, null, 3, null, null, null, null, '{}'),
    ('s5', 'w3', 'late', 1, null, null, 3, null, null, null, null, '{nowhere}'),
    ('s6', 'w4', 'a', 1, null, null, 3, null, null, null, null, '{s7}'),
    ('s7', 'w4', 'b', 2, null, null, 3, null, null, null, null, '{s6}');

INSERT INTO "AgentPersonality" ("id", "agentId", "creativity", "cautiousness", "verbosity", "technicalDepth", "userFocus",
    "totalInteractions", "positiveCount", "negativeCount", "updatedAt") VALUES
    ('p1', 'echo', 0.75, 0.25, 0.5, 0.625, 0.875, 40, 30, 5, now()),
    ('p2', 'data processor/1', 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 0, now()),
    ('p3', 'writer', 1.5, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, now());

INSERT INTO "ToolUsage" ("id", "agentId", "toolName", "executionTime", "success", "timestamp") VALUES
    ('u1', 'echo', 'http_request', 100, true, '2025-10-05'), ('u2', 'echo', 'http_request', 300, false, '2025-10-06'),
    ('u3', 'echo', 'http_request', 200, true, '2025-10-04'), ('u4', 'monitor', 'check_disk', 5, true, '2025-10-05');
INSERT INTO "MCPServer" ("id", "agentId", "port", "status") VALUES ('v1', 'echo', 4000, 'running');
INSERT INTO "AgentCommunication" ("id", "fromAgentId", "toAgentId", "messageType", "payload") VALUES
    ('c1', 'echo', 'writer', 'tool_call', '{}'), ('c2', 'writer', 'echo', 'prompt', '{}');
