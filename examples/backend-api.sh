#!/usr/bin/env bash
# Runs every curl line in the documentation of `llm-backend-api`. Only host, token, ids and file path are changed.
# Prints each line with its answer. Usage: HOST=http://localhost:8000 bash examples/backend-api.sh [FILE]
set -euo pipefail
HOST=${HOST:-http://localhost:8000}
FILE=${1:-$(mktemp -d)/document.md}
[ -e "$FILE" ] || printf '# 不可抗力\n\n不可抗力条款是指因不能预见、不能避免的情况，合同无法履行时，免除当事人责任的条款。\n' > "$FILE"

show() { # NAME COMMAND…: print both, run the command, print and store its answer in ANSWER
	printf '\n## %s\n$ %s\n' "$1" "${*:2}"
	ANSWER=$("${@:2}" --silent --show-error --write-out '\n%{http_code}')
	printf '%s\n' "$ANSWER"
}
field() { # NAME: print the value of this field in the last answer
	printf '%s' "$ANSWER" | sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" | head -n 1
}

show "Register a User" curl -X POST "$HOST/api/users/register" \
	-H "Content-Type: application/json" \
	-d '{
    "username": "john_doe",
    "password": "SecureP@ssw0rd!"
}'
show "Login a User" curl -X POST "$HOST/api/users/login" \
	-H "Content-Type: application/json" \
	-d '{
    "username": "john_doe",
    "password": "SecureP@ssw0rd!"
}'
YOUR_JWT_TOKEN=$(field token)
show "Create a Conversation" curl -X POST "$HOST/api/conversations/create" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN" \
	-d '{
    "title": "My New Conversation",
    "model": "gpt-4o",
    "api_key": "your-api-key-here"
}'
CONVERSATION=$(field conversation_id)
show "Stream Chat Messages" curl -X POST "$HOST/api/chat/$CONVERSATION" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN" \
	-d '{
    "message": "介绍一下RUST"
}'
show "Get Conversation History" curl -X GET "$HOST/api/conversations/history/$CONVERSATION" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN"
show "List User Conversations" curl -X GET "$HOST/api/conversations/list" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN"
show "Create Knowledge Base" curl -X POST "$HOST/api/rag/kb/create" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN" \
	-d '{
    "kb_name": "法律知识库",
    "embedding_model": "zhipu-embedding-3"
}'
KNOWLEDGE_BASE=$(field kb_id)
show "Get Knowledge Base List" curl -X GET "$HOST/api/rag/kb/list" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN"
show "Upload Document to Knowledge Base" curl -X POST "$HOST/api/rag/doc/upload" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN" \
	-F "kb_id=$KNOWLEDGE_BASE" \
	-F "file=@$FILE"
show "Retrieve Information from Knowledge Base" curl -X POST "$HOST/api/rag/retrieve" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN" \
	-d "{
    \"kb_id\": \"$KNOWLEDGE_BASE\",
    \"query\": \"什么是不可抗力条款？\",
    \"top_k\": 5
}"
show "Chat with Knowledge Base" curl -X POST "$HOST/api/rag/chat" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN" \
	-d "{
    \"conversation_id\": $CONVERSATION,
    \"kb_id\": \"$KNOWLEDGE_BASE\",
    \"message\": \"什么是不可抗力条款？\",
    \"top_k\": 3
}"
show "Delete a Conversation" curl -X POST "$HOST/api/conversations/del/$CONVERSATION" \
	-H "Content-Type: application/json" \
	-H "Authorization: Bearer $YOUR_JWT_TOKEN"
