"""The messages of the routes of `llm-backend-api`, in English and Chinese. Their wording follows its documentation."""

from typing import Literal

from server.errors import ApiError

Language = Literal["en", "zh"]

_TEXTS: dict[str, tuple[str, str]] = {
    "registered": ("User registered successfully", "用户注册成功"),
    "conversation_deleted": ("Conversation deleted successfully", "对话删除成功"),
    "base_created": ("Knowledge base created with the model: {model}", "知识库创建成功，使用模型: {model}"),
    "base_created_instead": (
        "Knowledge base created with the model: {model} ({asked} is not configured)",
        "知识库创建成功，使用模型: {model}（未配置 {asked}）",
    ),
    "bases": ("Knowledge bases listed", "知识库列表获取成功"),
    "base_deleted": ("Knowledge base deleted", "知识库删除成功"),
    "document_taken_in": ("Document taken in as {count} passages", "文档上传处理成功，共分割并添加 {count} 个文本块"),
    "documents": ("Documents listed", "文档列表获取成功"),
    "document_deleted": ("Document deleted", "文档删除成功"),
    "retrieved": ("Retrieved", "检索成功"),
    "embedders": ("Embedding models listed", "支持的Embedding模型列表获取成功"),
}

_ERRORS: dict[str, tuple[str, str]] = {
    "no_api_key": ("Authorization header missing", "缺少 Authorization 请求头"),
    "invalid_api_key": ("Invalid token format", "令牌格式无效"),
    "invalid_token": ("Invalid or expired token", "令牌无效或已过期"),
    "insufficient_scope": ("This key does not allow it", "该密钥没有权限"),
    "wrong_password": ("invalid username or password", "用户名或密码无效"),
    "name_taken": ("username already exists", "用户名已存在"),
    "registration_closed": ("Registration is closed", "注册已关闭"),
    "unknown_conversation": ("Conversation not found", "对话不存在"),
    "conversation_gone": ("Conversation not found", "对话不存在"),
    "conversation_busy": ("Another answer of this conversation is running", "该对话正在回答中"),
    "invalid_conversation_id": ("Invalid conversation ID", "对话 ID 无效"),
    "unknown_knowledge_base": ("Knowledge base not found", "知识库不存在"),
    "unknown_document": ("Document not found", "文档不存在"),
    "missing_knowledge_base": ("Knowledge base ID is missing", "缺少知识库 ID"),
    "missing_file": ("No file was uploaded", "未上传文件"),
    "too_many_requests": ("Too many requests, try again later", "请求过多，请稍后再试"),
    "body_too_large": ("The body is too large", "请求体过大"),
    "document_refused": ("The document cannot be read: {detail}", "文档无法解析: {detail}"),
    "internal_error": ("Server error", "服务器内部错误"),
    "database_away": ("The server is busy, try again later", "服务器繁忙，请稍后再试"),
    "database_full": ("The server has no room left", "服务器存储空间不足"),
    "storage_full": ("The server has no room left", "服务器存储空间不足"),
}
INVALID = ("Invalid request", "无效的请求参数")


def text(name: str, language: Language, **values: object) -> str:
    """Return the message of that name."""
    return _TEXTS[name][language == "zh"].format(**values)


def told(error: ApiError, language: Language) -> str:
    """Return the message of an error for the client."""
    if error.code == "invalid_value" or error.code == "invalid_json":
        return INVALID[language == "zh"]
    known = _ERRORS.get(error.code or "")
    return known[language == "zh"].format(detail=error.message) if known else error.message


def language_of(accept: str | None, usual: Language) -> Language:
    """Return the language that the header prefers, or `usual`. Of two equal ones, the first in the header wins."""
    wishes = []
    for at, part in enumerate((accept or "").split(",")[:32]):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.partition("=")[2] or 1)
        except ValueError:
            quality = 0.0
        language = tag.strip().lower().partition("-")[0]
        if quality > 0 and language in ("en", "zh"):
            wishes.append((-quality, at, language))
    return usual if not wishes else "zh" if min(wishes)[2] == "zh" else "en"
