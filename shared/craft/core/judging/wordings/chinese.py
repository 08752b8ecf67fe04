"""Refusals in Chinese: phrases with which people and models say that they do not know."""

from craft.core.judging.wordings.base import RefusalWording, merged, phrases
from craft.core.judging.wordings.english import ENGLISH

_SIMPLIFIED = dict(
    zip(
        "無確沒曉對這個問題關於實說聽過記應該會準來還認為覺請並語經辦們",
        "无确没晓对这个问题关于实说听过记应该会准来还认为觉请并语经办们",
        strict=True,
    )
)

_CHINESE_ONLY = RefusalWording(
    language="zh",
    spoken=phrases(
        "我不知道 / 不知道 / 我也不知道 / 我们不知道 / 我不清楚 / 不清楚 / 我也不清楚 / 我不确定 / 不确定",
        "我也不确定 / 我不能确定 / 不能确定 / 我无法确定 / 无法确定 / 我无法回答 / 无法回答 / 我不能回答",
        "不能回答 / 我没法回答 / 没法回答 / 我没办法回答 / 我回答不了 / 回答不了 / 我答不上来 / 答不上来",
        "我不了解 / 不了解 / 我没听说过 / 没听说过 / 我没有听说过 / 我不记得 / 不记得 / 我不会 / 我不懂",
        "我不晓得 / 不晓得 / 我没有答案 / 我没有相关 / 我没有足够 / 我没有关于 / 我无法提供 / 无法提供 / 我说不准",
        "说不准 / 我不敢肯定 / 不敢肯定 / 我不肯定 / 我拿不准 / 我没有把握 / 没有把握 / 我无法判断 / 无法判断",
        "我不明白 / 我对此不了解 / 我对此不清楚 / 我对此一无所知 / 无可奉告 / 我不太知道 / 我没学过",
    ),
    stated=phrases(
        "一无所知 / 答案未知 / 答案是未知 / 尚不清楚 / 不得而知 / 无从得知 / 无从知晓 / 没有人知道 / 无人知晓",
        "信息不足 / 没有足够的信息 / 没有相关信息 / 无法得知 / 没有确切答案 / 难以确定",
    ),
    bare=phrases("未知 / 不详 / 不明 / 没有答案 / 不会"),
    lead_ins=phrases(
        "抱歉 / 对不起 / 不好意思 / 遗憾 / 可惜 / 嗯 / 呃 / 其实 / 说实话 / 老实说 / 坦白说 / 这个问题 / 这个",
        "对于这个问题 / 关于这个问题 / 对这个问题 / 关于这一点 / 对此 / 答案是 / 答案 / 答 / 回答 / 但 / 但是",
        "不过 / 我觉得 / 我想 / 恐怕 / 虽然 / 尽管 / 因为 / 这",
    ),
    softeners=phrases(
        "真的 / 并 / 确实 / 实在 / 太 / 很 / 完全 / 目前 / 暂时 / 非常 / 十分 / 是 / 还 / 特别 / 百分之百",
    ),
    closers=phrases(
        "答案 / 这个问题 / 该问题 / 您的问题 / 你的问题 / 问题 / 这个 / 这 / 该 / 的 / 呢 / 啊 / 哦 / 呀 / 了",
        "它 / 此 / 正确",
    ),
    turns=phrases("但是 / 但 / 不过 / 可是 / 然而"),
    concessions=phrases("虽然 / 尽管"),
    guesses=phrases(
        "也许 / 可能 / 或许 / 大概 / 应该 / 我猜 / 我想 / 我认为 / 我觉得 / 估计 / 它是 / 他是 / 她是 / 答案是",
        "好像",
    ),
    prefaces=phrases("关于 / 对于 / 根据 / 对 / 就 / 至于"),
    reasons=phrases("因为 / 由于 / 如果 / 除非 / 或者"),
    asides=phrases(
        "抱歉 / 对不起 / 不好意思 / 遗憾 / 人工智能 / 语言模型 / 请提供 / 请您 / 请告诉 / 更多信息 / 更多的信息",
        "上下文 / 帮助您 / 帮助你 / 帮您 / 帮你 / 建议 / 查阅 / 查询 / 搜索 / 谢谢 / 如果你 / 如果您 / 好问题",
        "训练数据",
    ),
    spellings=tuple(_SIMPLIFIED.items()),
)

# Models sometimes refuse in English when asked in Chinese, so Chinese recognises both.
CHINESE = merged(_CHINESE_ONLY, ENGLISH)
